//! Compiles the kernels to PTX: `OUT_DIR/ptx.rs` has the text of each file as a constant.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    {
        let out = std::path::PathBuf::from(std::env::var("OUT_DIR").expect("cargo sets it"));
        cudaforge::KernelBuilder::new()
            .source_dir("kernels")
            .watch(["kernels/common.cuh"])
            .arg("-std=c++17")
            .arg("-O3")
            .build_ptx()
            .expect("nvcc compiles the kernels; docs/cuda.md says how to get it")
            .write(out.join("ptx.rs"))
            .expect("the build folder can be written to");
    }
}
