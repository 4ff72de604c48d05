//! vxf-builtins
