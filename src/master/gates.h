/* The sockets of the admin API: admin.sock in the runtime directory, and the two TCP addresses of the settings.
 *
 * Process: the master binds them, and they outlive every control process, which inherits and serves them: nobody who connects while one
 *          follows the other is turned away.
 * States:  gates_prepare() binds what new settings add, beside what there is; then either gates_switch() closes what they leave out, or
 *          gates_abandon() what they added.
 */
#ifndef AEGIS_MASTER_GATES_H
#define AEGIS_MASTER_GATES_H

#include "config/config.h"
#include "control/control.h"

struct gate_socket {
	int fd;              /* -1 = none */
	struct addr address; /* as the settings say */
};

struct gates {
	char *path; /* of admin.sock; NULL before it is there */
	gid_t gid;  /* of admin.sock */
	struct gate_socket now[N_HTTP_GATES], next[N_HTTP_GATES];
};

void gates_init(struct gates *gates);
/* Make admin.sock, mode 0660, with the group gid ((gid_t)-1: our own). Call with the pid file locked: what stands there is nobody's. 0, or
 * a negative errno with *why a sentence. */
must_check int gates_open(struct gates *gates, const char *dir, gid_t gid, char *why, size_t why_size);
/* Before that: the socket of a gate that the master before us made, and the address that the settings said. */
void gates_adopt(struct gates *gates, enum http_gate gate, int fd, const struct addr *address);
/* Another master has them: close ours, and leave the path alone. */
void gates_let_go(struct gates *gates);
/* 0, or a negative errno with *why a sentence: busy, not allowed, the token cannot be read; what there was stays. */
must_check int gates_prepare(struct gates *gates, const struct config *config, char *why, size_t why_size);
void gates_switch(struct gates *gates);
void gates_abandon(struct gates *gates);
/* What a control process gets: for the settings to come, or for those in force. */
void gates_describe(const struct gates *gates, bool next, struct control_admin *out);
/* In a forked child: close those that are not in keep (NULL: all). */
void gates_release_in_child(const struct gates *gates, const struct control_admin *keep);
void gates_close(struct gates *gates);

#endif
