"""The one thing that pyproject.toml cannot say: the C kernel is built where a compiler is."""

from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

# -fschedule-insns: gcc then mixes independent polynomials, a quarter off the step sizes; clang does
# so anyway and says that it ignores the flag. MSVC has no vector types and reads the file as C++.
UNIX = "-std=c11 -O3 -fno-math-errno -fno-trapping-math -ffp-contract=fast -fschedule-insns"
UNIX += " -Wno-psabi -fvisibility=hidden"
FLAGS = {"msvc": ["/O2", "/fp:contract", "/TP"], "unix": UNIX.split()}
EXPORTS = [
    "napari_activeft_best_set",
    "napari_activeft_lanes",
    "napari_activeft_scan_forward",
    "napari_activeft_scan_backward",
    "napari_activeft_ss2d_forward",
    "napari_activeft_ss2d_backward",
]


class OptionalBuild(build_ext):
    """Build the kernel; where that fails, say so in one line and go on without it."""

    def build_extension(self, ext: Extension) -> None:
        """Compile with the flags of this compiler."""
        ext.extra_compile_args = FLAGS.get(self.compiler.compiler_type, FLAGS["unix"])
        try:
            super().build_extension(ext)
        except Exception as error:  # distutils has no common base for its failures
            reason = str(error).splitlines()[0][:120]
            self.warn(f"NO C KERNEL: no C compiler worked ({reason}); torch will do the scans")

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """List what ctypes looks up: this library is no Python module, it has no PyInit."""
        return EXPORTS


kernel = Extension(
    "napari_activeft.models._scan",
    sources=["models/csrc/selective_scan.c"],
    depends=[str(header) for header in Path("models/csrc").glob("*.h")],
    optional=True,
)
setup(
    ext_modules=[kernel],
    cmdclass={"build_ext": OptionalBuild},
    exclude_package_data={"napari_activeft.models": ["csrc/*"]},
)
