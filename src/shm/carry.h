/* Counters from one segment into another one of another layout, by name: how counters go on over an upgrade of the program.
 *
 *   aegis-counters 1
 *   instance 41                               connections now; then what was counted since the last text
 *   count worker_restarts_total 1             by metric name, of the row above
 *   listener app 40                           its connections now
 *   count connections_total 1234
 *   close client 1200                         by reason
 *   times connect_seconds 123456 1024:7 ...   the sum in nanoseconds, and how many from each lower bound on
 *   server app a 40                           upstream and server
 *   end
 *
 * Writer: the old master (struct carry remembers what it said). Reader: the new master, for which a seat of its own segment stands for all
 * workers of the old one: their counters are added to those of the seat, their connections are what it holds of the limits.
 */
#ifndef AEGIS_SHM_CARRY_H
#define AEGIS_SHM_CARRY_H

#include "shm/layout.h"

#define CARRY_FIRST_LINE "aegis-counters 1"
enum { CARRY_BYTES_MOST = 64 * 1024 * 1024 };

struct carry;

/* NULL when out of memory. */
must_check struct carry *carry_new(void);
void carry_free(struct carry *carry);

/* What was counted since the last text, and the connections there are now. NULL when out of memory; the next text has it then. free() it.
 */
must_check char *carry_write(struct carry *carry, const struct shm *shm, size_t *length);

/* How many rows a text names at most, for who has to make room for them. */
void carry_count_rows(const char *text, uint32_t *listeners, uint32_t *servers);

/* Find a row for each name (those that are new here are retired ones), then add it to what the seat counts and holds. text is taken apart.
 * 0; -EPROTO where it is damaged, and what stands before that is added; or -ENOSPC, and rows without a place are left out. */
must_check int carry_claim(struct shm *shm, const char *text);
must_check int carry_read(struct shm *shm, uint32_t seat, char *text);
/* Nothing is held any more. */
void carry_let_go(struct shm *shm, uint32_t seat);

#endif
