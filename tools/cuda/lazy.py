#!/usr/bin/env python3
"""Makes libraries that look up CUDA when they are first called, so that one program starts anywhere.

    tools/cuda/lazy.py CUDARC_SOURCE OUTPUT_FOLDER [LIBCUDART_STATIC]

candle links CUDA's libraries by name: a program so linked does not start on a machine without them.
The linker takes `libX.a` where there is no `libX.so`. So for each library an archive is made here with
every function that cudarc declares. A function is a jump through a table; the first call of each opens
the real library and looks the function up. Where there is none, it returns that library's own code for
"not there", and the program goes on with the CPU. x86-64 Linux.
"""
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# Link name: cudarc's module, the files that it may be, what to return when it is none of them. The
# codes have to be ones that cudarc knows.
LIBRARIES = {
    "cuda": ("driver", ["libcuda.so.1"], 100),  # CUDA_ERROR_NO_DEVICE
    "cublas": ("cublas", ["libcublas.so.13", "libcublas.so.12"], 1),  # CUBLAS_STATUS_NOT_INITIALIZED
    "cublasLt": ("cublaslt", ["libcublasLt.so.13", "libcublasLt.so.12"], 1),
    "curand": ("curand", ["libcurand.so.10"], 203),  # CURAND_STATUS_INITIALIZATION_FAILED
    "nvrtc": ("nvrtc", ["libnvrtc.so.13", "libnvrtc.so.12"], 11),  # NVRTC_ERROR_INTERNAL_ERROR
}
# Where containers put them, beside what the loader searches.
FOLDERS = ["/usr/local/nvidia/lib64", "/usr/local/cuda/lib64"]
INTEGERS = ["rax", "rdi", "rsi", "rdx", "rcx", "r8", "r9", "r10"]

DECLARATION = re.compile(
    r'extern "C" \{\s*(?:#\[[^\]]*\]\s*)*fn (\w+)\s*\([^;]*?\)\s*(?:->\s*([^;]+))?;', re.S
)


def functions(source, module):
    """The functions that cudarc declares, and whether each returns a text."""
    text = (source / "src" / module / "sys" / "mod.rs").read_text()
    found = {name: "c_char" in (returned or "") for name, returned in DECLARATION.findall(text)}
    return sorted(found.items())


def trampolines(library, names):
    """Each function: jump to what the table holds; if it holds nothing yet, have it looked up."""
    table, find, slow = (f"vxf_lazy_{library}_{what}" for what in ("table", "find", "slow"))
    lines = [".text"]
    for index, name in enumerate(names):
        lines += [
            f".globl {name}", f".type {name}, @function", f"{name}:",
            f"    movq {table}+{8 * index}(%rip), %r11",
            "    testq %r11, %r11",
            "    jz 0f",
            "    jmp *%r11",
            f"0:  pushq ${index}",
            f"    jmp {slow}",
        ]
    # Arguments may be in any of these, and all have to be there again when the function is entered.
    lines += [f"{slow}:"] + [f"    pushq %{register}" for register in INTEGERS]
    lines += ["    subq $128, %rsp"]
    lines += [f"    movups %xmm{i}, {16 * i}(%rsp)" for i in range(8)]
    lines += [f"    movq {128 + 8 * len(INTEGERS)}(%rsp), %rdi", f"    call {find}", "    movq %rax, %r11"]
    lines += [f"    movups {16 * i}(%rsp), %xmm{i}" for i in range(8)]
    lines += ["    addq $128, %rsp"] + [f"    popq %{register}" for register in reversed(INTEGERS)]
    lines += ["    addq $8, %rsp", "    jmp *%r11", '.section .note.GNU-stack,"",@progbits', ""]
    return "\n".join(lines)


def finder(library, functions, files, code):
    """The C half: opens the library once and fills the table."""
    def array(items):
        return ", ".join(items)
    return f"""\
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

__attribute__((visibility("hidden"))) void *vxf_lazy_{library}_table[{len(functions)}];
static const char *const names[] = {{{array(f'"{name}"' for name, _ in functions)}}};
static const char returns_text[] = {{{array(str(int(text)) for _, text in functions)}}};
static const char *const files[] = {{{array(f'"{file}"' for file in files)}}};
static const char *const folders[] = {{"", {array(f'"{folder}/"' for folder in FOLDERS)}}};

static void *opened;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void open_library(void) {{
    char path[512];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        for (size_t j = 0; j < sizeof folders / sizeof *folders && !opened; j++) {{
            snprintf(path, sizeof path, "%s%s", folders[j], files[i]);
            opened = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
        }}
    if (getenv("VXF_CUDA_DEBUG"))
        fprintf(stderr, "lib{library}: %s\\n", opened ? path : "not found");
}}

static long no_library(void) {{ return {code}; }}
static const char *no_text(void) {{ return "lib{library} is not on this machine"; }}

__attribute__((visibility("hidden"))) void *vxf_lazy_{library}_find(long index) {{
    pthread_once(&once, open_library);
    void *function = opened ? dlsym(opened, names[index]) : NULL;
    if (!function)
        function = returns_text[index] ? (void *)no_text : (void *)no_library;
    __atomic_store_n(&vxf_lazy_{library}_table[index], function, __ATOMIC_RELEASE);
    return function;
}}
"""


def main(source, output, runtime=None):
    output.mkdir(parents=True, exist_ok=True)
    for library, (module, files, code) in LIBRARIES.items():
        declared = functions(source, module)
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            (folder / "jump.s").write_text(trampolines(library, [name for name, _ in declared]))
            (folder / "find.c").write_text(finder(library, declared, files, code))
            subprocess.check_call(
                ["cc", "-O1", "-fPIC", "-c", "jump.s", "find.c"], cwd=folder
            )
            archive = output.resolve() / f"lib{library}.a"
            archive.unlink(missing_ok=True)
            subprocess.check_call(["ar", "rcs", archive, "jump.o", "find.o"], cwd=folder)
        print(f"lib{library}.a: {len(declared)} functions")
    # candle-kernels asks for the runtime by name; in a slim build nothing calls it.
    target = output / "libcudart.a"
    if runtime:
        shutil.copy(runtime, target)
    else:
        target.unlink(missing_ok=True)
        subprocess.check_call(["ar", "rcs", target])


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
