//! vxf-testkit
