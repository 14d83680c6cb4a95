#include "view/connections.h"

#include <string.h>

#include "base/clock.h"
#include "view/cipher_names.h"

static bool is_server(const struct shm *shm, uint32_t row, const char *wanted)
{
	char name[NAMING_SIZE], upstream[NAMING_SIZE];
	if (row == ROLL_NO_SERVER)
		return false;
	naming_server(shm, row, name, sizeof name);
	if (strcmp(name, wanted) == 0)
		return true;
	naming_server_upstream(shm, row, upstream, sizeof upstream);
	size_t length = strlen(upstream);
	return strncmp(wanted, upstream, length) == 0 && wanted[length] == '/' && strcmp(wanted + length + 1, name) == 0;
}

bool connections_has(const struct shm *shm, const struct connections_filter *filter, const struct roll_row *row)
{
	char name[NAMING_SIZE];
	if (filter->listener && strcmp(naming_listener(shm, row->listener, name, sizeof name), filter->listener) != 0)
		return false;
	if (filter->server && !is_server(shm, row->server, filter->server))
		return false;
	return !filter->by_client || client_filter_has(&filter->client, &row->client);
}

static void emit_age(struct emit *emit, const char *key, uint64_t since_ns, uint64_t now_ns)
{
	emit_u64(emit, key, now_ns > since_ns ? (now_ns - since_ns) / NS_PER_MS : 0);
}

static void emit_tls(struct emit *emit, const char *key, const struct roll_row *row, enum roll_side which)
{
	static const char *const versions[N_ROLL_TLS] = { [ROLL_TLS_1_2] = "TLSv1.2", [ROLL_TLS_1_3] = "TLSv1.3" };
	uint8_t version = (uint8_t)(row->tls[which] & ~ROLL_RESUMED);
	char cipher[CIPHER_NAME_SIZE];
	if (version == ROLL_PLAIN || version >= N_ROLL_TLS)
		return;
	emit_open(emit, key, '{');
	emit_string(emit, "version", versions[version]);
	emit_string(emit, "cipher", cipher_name(row->ciphers[which], cipher, sizeof cipher));
	emit_bool(emit, "resumed", (row->tls[which] & ROLL_RESUMED) != 0);
	emit_close(emit, '}');
}

void connections_emit(struct emit *emit, const struct shm *shm, uint32_t seat, const struct roll_row *row, uint64_t now_ns)
{
	char text[NAMING_SIZE], name[ROLL_NAME_SIZE];
	emit_open(emit, NULL, '{');
	emit_string(emit, "id", naming_connection(seat, row->serial, text, sizeof text));
	emit_string(emit, "client", naming_client(&row->client, text, sizeof text));
	emit_string(emit, "listener", naming_listener(shm, row->listener, text, sizeof text));
	emit_string(emit, "protocol", row->is_udp ? "udp" : "tcp");
	if (row->server == ROLL_NO_SERVER) {
		emit_null(emit, "upstream");
		emit_null(emit, "server");
	} else {
		emit_string(emit, "upstream", naming_server_upstream(shm, row->server, text, sizeof text));
		emit_string(emit, "server", naming_server(shm, row->server, text, sizeof text));
	}
	if (row->name[0]) {
		memcpy(name, row->name, sizeof name);
		name[sizeof name - 1] = '\0';
		emit_string(emit, "sni", name);
	}
	emit_tls(emit, "client_tls", row, ROLL_CLIENT);
	emit_tls(emit, "server_tls", row, ROLL_SERVER);
	emit_string(emit, "step", step_name((enum step)row->step));
	emit_age(emit, "age_ms", row->accepted_ns, now_ns);
	emit_age(emit, "idle_ms", row->active_ns, now_ns);
	emit_u64(emit, "up_bytes", row->up_bytes);
	emit_u64(emit, "down_bytes", row->down_bytes);
	if (row->is_udp) {
		emit_u64(emit, "up_datagrams", row->up_datagrams);
		emit_u64(emit, "down_datagrams", row->down_datagrams);
	}
	emit_close(emit, '}');
}

static uint32_t of_elder(const struct shm *shm, uint32_t seat)
{
	return shm_seat_is_elder(shm, seat) ? atomic_load_explicit(&shm->seats[seat].sessions, memory_order_relaxed) : 0;
}

void connections_emit_elders(struct emit *emit, const struct shm *shm)
{
	emit_open(emit, "elders", '[');
	for (uint32_t seat = 0; seat < shm->dims.seats; seat++) {
		if (of_elder(shm, seat) == 0)
			continue;
		emit_open(emit, NULL, '{');
		emit_i32(emit, "pid", atomic_load_explicit(&shm->seats[seat].pid, memory_order_relaxed));
		emit_u64(emit, "connections", of_elder(shm, seat));
		emit_close(emit, '}');
	}
	emit_close(emit, ']');
}

const struct shm_seat *connections_elder(const struct shm *shm)
{
	for (uint32_t seat = 0; seat < shm->dims.seats; seat++)
		if (of_elder(shm, seat) > 0)
			return &shm->seats[seat];
	return NULL;
}
