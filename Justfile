# The verbs of `cargo xtask`, one line each; `cargo xtask --help` explains them.

setup *ARGS:
    cargo xtask setup {{ARGS}}
kernel *ARGS:
    cargo xtask kernel {{ARGS}}
rootfs *ARGS:
    cargo xtask rootfs {{ARGS}}
board *ARGS:
    cargo xtask board {{ARGS}}
up *ARGS:
    cargo xtask up {{ARGS}}
test *ARGS:
    cargo xtask test {{ARGS}}
fuzz *ARGS:
    cargo xtask fuzz {{ARGS}}
bench *ARGS:
    cargo xtask bench {{ARGS}}
doctor *ARGS:
    cargo xtask doctor {{ARGS}}
clean *ARGS:
    cargo xtask clean {{ARGS}}
