#include <sys/socket.h>

#include "micro.h"
#include "policy/balance.h"
#include "shm/log_ring.h"
#include "shm/recorder.h"

enum { SERVERS_MAX = 65536 };

const struct micro_row micro_rows[] = {
	{ "access_check, IPv4", access_begin, access_run, access_end, AF_INET, 0 },
	{ "access_check, IPv6", access_begin, access_run, access_end, AF_INET6, 0 },
	{ "access_new, per rule", access_begin, access_make_run, access_end, AF_INET, 0 },
	{ "routes_find, by name", routes_begin, routes_run, routes_end, 0, 0 },
	{ "vault_find, by name", certificates_begin, certificates_run, certificates_end, 0, 0 },
	{ "choose round_robin", balance_begin, balance_run, balance_end, BALANCE_BY_ROUND_ROBIN, SERVERS_MAX },
	{ "choose round_robin, weighted", balance_weighted_begin, balance_run, balance_end, BALANCE_BY_ROUND_ROBIN, SERVERS_MAX },
	{ "choose least_connections", balance_begin, balance_run, balance_end, BALANCE_BY_LEAST_CONNECTIONS, SERVERS_MAX },
	{ "choose least_connections, weighted", balance_weighted_begin, balance_run, balance_end, BALANCE_BY_LEAST_CONNECTIONS,
	        SERVERS_MAX },
	{ "choose p2c", balance_begin, balance_run, balance_end, BALANCE_BY_P2C, SERVERS_MAX },
	{ "choose random, weighted", balance_weighted_begin, balance_run, balance_end, BALANCE_BY_RANDOM, SERVERS_MAX },
	{ "choose consistent_hash", balance_begin, balance_run, balance_end, BALANCE_BY_CONSISTENT_HASH, SERVERS_MAX },
	{ "limit_reserve + limit_release", limit_begin, limit_run, limit_end, 0, 0 },
	{ "recorder_write", recorder_bench_begin, recorder_bench_run, recorder_bench_end, 0, RECORDER_BYTES_MOST / sizeof(struct record) },
	{ "access log: a record", log_begin, log_run, log_end, 0, LOG_RING_ACCESS_MOST / 256 },
	{ "condition: usable, weight", condition_begin, condition_look_run, condition_end, CONDITION_GOES_WELL, 0 },
	{ "breaker: usable, ask, report", condition_begin, condition_run, condition_end, CONDITION_GOES_WELL, 0 },
	{ "breaker: a probe that fails", condition_begin, condition_run, condition_end, CONDITION_FAILS, 0 },
	{ "affinity_get, else affinity_put", affinity_begin, affinity_run, affinity_end, 0, 0 },
	{ "rate_take of a listener", rate_begin, rate_run, rate_end, 0, 0 },
	{ "rate_table_take, IPv4", rate_table_begin, rate_table_run, rate_end, AF_INET, 0 },
	{ "rate_table_take, IPv6", rate_table_begin, rate_table_run, rate_end, AF_INET6, 0 },
};
const size_t n_micro_rows = ARRAY_LEN(micro_rows);
