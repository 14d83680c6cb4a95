/* The settings: an immutable tree of plain structs, made from aegis.conf through the option table (options.c).
 *
 * Process: the master loads it; workers inherit it by fork and only read it.
 * Owner:   struct config owns all that it points to; config_free() gives it back.
 * Units:   durations in nanoseconds, sizes in bytes; 0 = none or no limit unless said otherwise.
 */
#ifndef AEGIS_CONFIG_CONFIG_H
#define AEGIS_CONFIG_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "base/log.h"

enum engine_kind { ENGINE_AUTO, ENGINE_EPOLL, ENGINE_IO_URING };
enum protocol { PROTOCOL_TCP };
enum on_full { ON_FULL_REJECT, ON_FULL_WAIT };
enum balance_kind { BALANCE_ROUND_ROBIN, BALANCE_LEAST_CONNECTIONS };
enum pool_framing { POOL_FRAMING_NONE, POOL_FRAMING_HTTP1, POOL_FRAMING_REDIS, POOL_FRAMING_LINE };
enum start_test { START_TEST_OFF, START_TEST_WARN, START_TEST_FAIL };

enum { CONFIG_NAME_SIZE = 64, CONFIG_MAX_LISTENERS = 256, CONFIG_MAX_SERVERS = 16384, CONFIG_MAX_WORKERS = 256, CONFIG_MAX_RETRIES = 7 };
enum { CONFIG_MAX_SHARED = 256, CONFIG_MAX_HOT = 65535 };
enum { SERVER_MAX_ADDRESSES = 8 }; /* of one host name */

struct tcp_config {
	bool nodelay;
	bool quickack;
	uint32_t fast_open; /* queue length, 0 = off */
	uint64_t defer_accept_ns;
	uint64_t keepalive_ns; /* idle time before the first probe */
	uint64_t user_timeout_ns;
	uint64_t receive_buffer_bytes; /* 0 = the kernel decides */
	uint64_t send_buffer_bytes;
};

struct listener_config {
	const char *name; /* unique, shorter than CONFIG_NAME_SIZE, defaults to the address */
	const char *address;
	struct endpoint endpoint; /* any but ENDPOINT_NAME */
	enum protocol protocol;
	const char *upstream_name;
	uint32_t upstream; /* index into config.upstreams */
	uint32_t backlog;
	uint32_t max_connections;
	enum on_full on_full;
	struct tcp_config tcp;
	struct {
		uint64_t first_byte_ns;
		uint64_t idle_ns;
		uint64_t lifetime_ns;
	} timeout;
};

struct server_config {
	const char *name; /* unique in its upstream, shorter than ADDR_TEXT_SIZE, defaults to the address */
	const char *address;
	struct endpoint endpoint; /* ENDPOINT_ADDRESS or ENDPOINT_NAME */
	uint32_t weight;          /* 0..65535; 0 = gets no new connection */
	bool backup;
	bool disabled;
	const char *file; /* where it was declared, for messages; NULL from the command line */
	int line;
	/* Filled in by the master's preflight before workers are forked: what the endpoint stands for. */
	size_t n_addrs;
	struct addr addrs[SERVER_MAX_ADDRESSES];
};

struct upstream_config {
	const char *name;
	enum balance_kind balance;
	struct server_config *servers;
	size_t n_servers;
	struct {
		uint64_t connect_ns;
		uint64_t read_ns;
	} timeout;
	uint32_t retries; /* further attempts after a failed connect, 0..CONFIG_MAX_RETRIES */
	enum start_test start_test;
	struct {
		uint32_t warm; /* per server and worker: established and never used */
		uint32_t keep; /* the same: used, and idle now; with share per server */
		enum pool_framing framing;
		uint64_t max_idle_ns;
		bool share;
	} pool;
	struct tcp_config tcp; /* of the connections to the servers; fast_open and defer_accept unused */
};

struct config {
	uint32_t workers; /* 0 = auto */
	bool pin;
	enum engine_kind engine;
	const char *user;  /* "" = not set: aegis where it exists, else nobody, when started as root */
	const char *group; /* "" = the user's group */
	const char *runtime_dir;
	uint32_t max_connections;
	uint64_t buffer_memory_bytes; /* for data that slow readers have not taken, all workers together */
	struct {
		enum log_level level;
		const char *target;
		enum log_format format;
	} log;
	struct {
		uint64_t timeout_ns;
		uint32_t pace;
		uint32_t max_generations;
	} drain;
	struct listener_config *listeners;
	size_t n_listeners;
	struct upstream_config *upstreams;
	size_t n_upstreams;
	void *arena; /* owns every string and array above, and where each setting came from */
};

/* What is wrong with the settings, in full: each line "file:line: path: what is wrong; what would be right". */
struct config_errors {
	size_t count;
	char *lines;         /* '\n'-terminated lines, heap; NULL when count is 0 */
	size_t length, size; /* of lines: used, allocated */
};
/* One more line. line 0 = none, path NULL or "" = none; what is not printable is escaped. */
void config_errors_add(struct config_errors *errors, const char *file, int line, const char *path, const char *format, ...)
        printf_like(5, 6);
void config_errors_clear(struct config_errors *errors);

struct config_source {
	const char *file;             /* NULL: no file, defaults and overrides only */
	const char *const *overrides; /* "-e" texts, each a piece of libconfig */
	size_t n_overrides;
	const char *runtime_dir;  /* "-r", or NULL */
	const char *quick_listen; /* quick mode: LISTEN, or NULL */
	const char *const *quick_upstreams;
	size_t n_quick_upstreams;
};

/* Load and check. 0 and *out (owned by the caller), or -EINVAL with at least one error; nothing else is touched.
 * Never blocks on the network: names are not resolved here. */
must_check int config_load(const struct config_source *source, struct config **out, struct config_errors *errors);
void config_free(struct config *config);

/* "aegis -T": the effective settings as a valid aegis.conf, each with a comment that says where it came from
 * ("default", "FILE:LINE", "-e"). */
void config_dump(const struct config *config, FILE *out);

/* The manual page aegis.conf(5) in mdoc, from the option table. */
void config_manual(FILE *out);

#endif
