#!/bin/sh
# What rustc takes for its linker: makes one object of the one bitcode file that it is given.
# usage: link.sh … --export-symbols SYMBOLS … FILE.o … -o OUT …
set -eu
llvm=${LLVM:-/usr/lib/llvm-22/bin}
while [ $# -gt 0 ]; do
  case $1 in
    -o) out=$2; shift ;;
    --export-symbols) symbols=$2; shift ;;
    *.o) bitcode=$1 ;;
  esac
  shift
done
"$llvm/opt" -passes='internalize,globaldce,default<O2>,globaldce' \
  --internalize-public-api-file="$symbols" "$bitcode" -o "$out.bc"
"$llvm/llc" -march=bpfel -mcpu=v3 -filetype=obj "$out.bc" -o "$out"
"$llvm/llvm-strip" -g "$out"
rm "$out.bc"
