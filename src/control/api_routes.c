#include "control/api.h"

#define GATE(which) (1u << HTTP_GATE_##which)
/* clang-format off */
#define LOOK(path, handler, where) { .method = "GET", .pattern = path, .fn = handler, .gates = where }
/* What changes something; a body may hold what KEYS() names. */
#define DO(path, handler, ...) { .method = "POST", .pattern = path, .fn = handler, .gates = ADMIN, __VA_ARGS__ }
#define END(path, handler) { .method = "DELETE", .pattern = path, .fn = handler, .gates = ADMIN }
/* clang-format on */
#define ADMIN (GATE(UNIX) | GATE(ADMIN))
#define EVERYWHERE (ADMIN | GATE(METRICS))
#define KEYS(...) .keys = (const char *const[]){ __VA_ARGS__ }, .n_keys = ARRAY_LEN(((const char *const[]){ __VA_ARGS__ }))

const struct route api_routes[] = {
	{ .method = "GET", .pattern = "/", .fn = api_page, .gates = ADMIN, .is_open = true },
	LOOK("/health", api_health, ADMIN),
	LOOK("/status", api_status, ADMIN),
	LOOK("/settings", api_settings, ADMIN),
	LOOK("/metrics", api_metrics, EVERYWHERE),
	LOOK("/connections", api_connections, ADMIN),
	END("/connections/*", api_kill),
	LOOK("/why", api_why, ADMIN),
	DO("/reload", api_reload),
	DO("/certs/reload", api_certificates),
	DO("/drain", api_drain, KEYS("timeout")),
	DO("/undrain", api_undrain),
	LOOK("/servers", api_servers, ADMIN),
	DO("/servers/*/enable", api_server_enable),
	DO("/servers/*/disable", api_server_disable),
	DO("/servers/*/drain", api_server_drain),
	DO("/servers/*/weight", api_server_weight, KEYS("weight")),
	LOOK("/servers/*", api_server, ADMIN), /* behind those that it would match, too */
	DO("/reset", api_reset),
};
const size_t n_api_routes = ARRAY_LEN(api_routes);
