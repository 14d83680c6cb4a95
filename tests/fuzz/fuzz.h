/* What a fuzz target is: one function, called with any bytes. A fuzzer drives it, or replay.c with the corpus. */
#ifndef AEGIS_TESTS_FUZZ_H
#define AEGIS_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

#endif
