"""Builds cext._kernels: each instruction set in its own object file, with its own flags, chosen at run time.

SANDTABLE_WERROR=1    warnings are errors
SANDTABLE_SANITIZE=1  address and undefined-behaviour sanitizers (run_scripts/sanitize.sh uses it)
"""

import os
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# No -march=native (the build may run elsewhere), no -ffast-math (it would flush denormals in the whole process), and no
# contraction to fused multiply-add: every instruction set must give the same bits.
COMMON = ["-std=c11", "-O3", "-g0", "-fno-math-errno", "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-Wextra"]
INSTRUCTION_SETS = {
    "kernels_avx2.c": ["-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mpopcnt"],
    "kernels_avx512.c": [
        *["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx512vbmi2", "-mbmi", "-mbmi2", "-mpopcnt"],
        "-mprefer-vector-width=512",
    ],
}
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-g"]


def flag_set(name: str) -> bool:
    return os.environ.get(name, "") not in ("", "0")


class BuildKernels(build_ext):
    """build_ext that gives the files of an instruction set their flags, on the processor family that has them."""

    def build_extension(self, ext: Extension) -> None:
        compile_one = self.compiler._compile

        def compile_with_flags(obj, src, suffix, cc_args, extra, pp_opts):  # type: ignore[no-untyped-def]
            x86 = os.uname().machine in ("x86_64", "AMD64")
            flags = INSTRUCTION_SETS.get(os.path.basename(src), []) if x86 else []
            return compile_one(obj, src, suffix, cc_args, [*extra, *flags], pp_opts)

        self.compiler._compile = compile_with_flags
        try:
            super().build_extension(ext)
        finally:
            self.compiler._compile = compile_one


def kernels() -> Extension:
    compile_args, link_args = [*COMMON], ["-pthread"]
    if flag_set("SANDTABLE_WERROR"):
        compile_args.append("-Werror")
    if flag_set("SANDTABLE_SANITIZE"):
        compile_args += [*SANITIZE, "-O1"]
        link_args += SANITIZE
    return Extension(
        "cext._kernels",
        sources=sorted(glob("cext/src/*.c")),
        depends=sorted(glob("cext/src/*.h")),
        include_dirs=["cext/src"],
        extra_compile_args=[*compile_args, "-pthread"],
        extra_link_args=link_args,
    )


setup(ext_modules=[kernels()], cmdclass={"build_ext": BuildKernels})
