//! vxf
