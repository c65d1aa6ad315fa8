# The verbs of `cargo xtask`, one line each; `cargo xtask --help` explains them.

set positional-arguments

setup *ARGS:
    @cargo xtask setup "$@"
kernel *ARGS:
    @cargo xtask kernel "$@"
rootfs *ARGS:
    @cargo xtask rootfs "$@"
board *ARGS:
    @cargo xtask board "$@"
up *ARGS:
    @cargo xtask up "$@"
ctl *ARGS:
    @cargo xtask ctl "$@"
test *ARGS:
    @cargo xtask test "$@"
fuzz *ARGS:
    @cargo xtask fuzz "$@"
bench *ARGS:
    @cargo xtask bench "$@"
doctor *ARGS:
    @cargo xtask doctor "$@"
clean *ARGS:
    @cargo xtask clean "$@"
