# Two commands: `make demo` and `make test`. Both do all the set-up a fresh machine needs.
.PHONY: setup demo test test-extra bench clean

EXIT ?=

setup:
	@cargo xtask setup

demo:
	@cargo xtask demo $(if $(EXIT),--exit)

test:
	@cargo xtask test

# Apache Spark too: half a gigabyte, and some minutes.
test-extra:
	@cargo xtask test-extra

bench:
	@cargo xtask bench

clean:
	cargo clean
	rm -rf .tools data
