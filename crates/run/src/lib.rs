//! vxf-run
