# Two commands: `make demo` and `make test`. Both do all the set-up a fresh machine needs.
.PHONY: setup demo test bench clean

EXIT ?=

setup:
	@cargo xtask setup

demo:
	@cargo xtask demo $(if $(EXIT),--exit)

test:
	@cargo xtask test

bench:
	@cargo xtask bench

clean:
	cargo clean
	rm -rf .tools data
