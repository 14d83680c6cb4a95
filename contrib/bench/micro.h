/* The rows of contrib/bench/micro. A row is an operation; a new one is a line in micro_rows.c, and three functions where it is of
 * a new kind.
 */
#ifndef AEGIS_BENCH_MICRO_H
#define AEGIS_BENCH_MICRO_H

#include "base/attr.h"

struct micro_row {
	const char *name;
	/* Set up with n entries; kind is the row's. NULL and errno where that cannot be. */
	void *(*begin)(uint32_t n, uint32_t kind);
	/* Do it so many times, or somewhat more. Returns how many times. */
	uint64_t (*run)(void *state, uint64_t times);
	void (*end)(void *state);
	uint32_t kind;
	uint32_t most; /* entries that there can be; 0 = any number */
};

extern const struct micro_row micro_rows[];
extern const size_t n_micro_rows;

/* Results go here, so that no compiler leaves the work out. */
extern volatile uint64_t micro_sink;

/* The same sequence in every run. */
uint32_t micro_random(void);
/* memory of so many bytes, zeroed; ends the program where there is none. */
must_check void *micro_memory(size_t count, size_t size);
/* 0..n-1 in random order. */
must_check uint32_t *micro_order(uint32_t n);

/* access_check(); kind is the family. */
void *access_begin(uint32_t n, uint32_t kind);
uint64_t access_run(void *state, uint64_t times);
/* access_new() and access_free(), per rule. */
uint64_t access_make_run(void *state, uint64_t times);
void access_end(void *state);

/* routes_find() of a name, any of n. */
void *routes_begin(uint32_t n, uint32_t kind);
uint64_t routes_run(void *state, uint64_t times);
void routes_end(void *state);

/* vault_find() of a name, any of those of n certificates. */
void *certificates_begin(uint32_t n, uint32_t kind);
uint64_t certificates_run(void *state, uint64_t times);
void certificates_end(void *state);

/* balance_choose(), with balance_changed() for the connection that begins and for one that ends; kind is the algorithm. */
void *balance_begin(uint32_t n, uint32_t kind);
/* The same with as many different weights as there are. */
void *balance_weighted_begin(uint32_t n, uint32_t kind);
uint64_t balance_run(void *state, uint64_t times);
void balance_end(void *state);

/* condition_usable() and condition_weight() of a server, any of n; the same with condition_ask() and condition_report(). */
enum condition_kind { CONDITION_GOES_WELL, CONDITION_FAILS };
void *condition_begin(uint32_t n, uint32_t kind);
uint64_t condition_look_run(void *state, uint64_t times);
uint64_t condition_run(void *state, uint64_t times);
void condition_end(void *state);

/* affinity_get() of a client, any of n, and affinity_put() of one that is not known. */
void *affinity_begin(uint32_t n, uint32_t kind);
uint64_t affinity_run(void *state, uint64_t times);
void affinity_end(void *state);

/* limit_reserve() and limit_release() of a server, any of n. */
void *limit_begin(uint32_t n, uint32_t kind);
uint64_t limit_run(void *state, uint64_t times);
void limit_end(void *state);

/* rate_take() of a listener, any of n. */
void *rate_begin(uint32_t n, uint32_t kind);
uint64_t rate_run(void *state, uint64_t times);
/* rate_table_take() of an address, any of n, with the key made; kind is the family. */
void *rate_table_begin(uint32_t n, uint32_t kind);
uint64_t rate_table_run(void *state, uint64_t times);
void rate_end(void *state);

/* recorder_write() of a step of a connection. */
void *recorder_bench_begin(uint32_t n, uint32_t kind);
uint64_t recorder_bench_run(void *state, uint64_t times);
void recorder_bench_end(void *state);

/* log_port_reserve() and log_port_commit() of a record of the access log. */
void *log_begin(uint32_t n, uint32_t kind);
uint64_t log_run(void *state, uint64_t times);
void log_end(void *state);

#endif
