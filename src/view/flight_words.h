/* What a record of the flight recorder says, as a sentence.
 *
 * Process: the control process. The record may hold anything.
 */
#ifndef AEGIS_VIEW_FLIGHT_WORDS_H
#define AEGIS_VIEW_FLIGHT_WORDS_H

#include "base/text.h"
#include "shm/layout.h"

/* since_ns: how long before it the record before it was made. */
void flight_words(const struct shm *shm, const struct record *record, uint64_t since_ns, struct text *out);

#endif
