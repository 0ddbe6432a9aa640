#!/bin/sh
# Compiles lasthop.c for either byte order, into the folder of $1 or this one.
# The objects are those of clang 14 with the headers of Debian 12.
exec "${GO:-go}" run github.com/cilium/ebpf/cmd/bpf2go \
	-cc "${CLANG:-clang}" -strip "${STRIP:-llvm-strip}" -output-dir "${1:-.}" -output-stem lasthop \
	-cflags "-O2 -Wall -Wno-logical-op-parentheses -mcpu=v2 -I/usr/include/$(uname -m)-linux-gnu" \
	-go-package lasthop bpf lasthop.c
