/* PostgreSQL, protocol 3.0: a startup message is answered by a request to authenticate or by an error with an SQLSTATE. */
#include <stdio.h>
#include <string.h>

#include "proto/probe_kinds.h"

enum { TYPE_BYTES = 1, LENGTH_BYTES = 4, HEADER_BYTES = TYPE_BYTES + LENGTH_BYTES };
enum { LENGTH_MIN = 8, AUTHENTICATION_MAX = 2000, ERROR_MAX = 30000 }; /* libpq's limits: what is beyond is another protocol */
enum { AUTHENTICATION_OK = 0 };
enum { SQLSTATE_LENGTH = 5 };

static uint32_t big_endian(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

void probe_postgres_begin(struct probe *probe)
{
	uint8_t message[PROBE_MESSAGE_SIZE] = { [5] = 3 }; /* after the length: version 3.0 */
	/* Every cluster has that database, and the server would look for one that is called like the user. */
	int length = snprintf((char *)message + 8, sizeof message - 8, "user%c%s%cdatabase%cpostgres%capplication_name%caegis%c", 0,
	        probe_user(probe), 0, 0, 0, 0, 0);

	ensure(length > 0 && (size_t)length + 9 <= sizeof message);
	message[3] = (uint8_t)(length + 9); /* with the NUL that ends the list */
	probe_say(probe, message, message[3]);
	probe_wait_for(probe, "the answer to the startup message");
}

/* Being let in is followed by more, which we do not wait for. */
static void authentication(struct probe *probe, const uint8_t *code)
{
	static const uint8_t terminate[] = { 'X', 0, 0, 0, 4 };

	if (big_endian(code) == AUTHENTICATION_OK) {
		probe_say(probe, terminate, sizeof terminate);
		probe_conclude(probe, PROBE_GOOD, "let us in");
	} else {
		probe_conclude(probe, PROBE_GOOD, "asks for a password");
	}
}

/* The value of a field of an error: NUL-terminated, or NULL when it is not there or not complete. */
static const char *field_of(const uint8_t *at, const uint8_t *end, uint8_t wanted)
{
	while (at < end && *at != 0) {
		const uint8_t *nul = memchr(at, 0, (size_t)(end - at));
		if (nul == NULL)
			return NULL;
		if (*at == wanted)
			return (const char *)at + 1;
		at = nul + 1;
	}
	return NULL;
}

static bool cannot_serve(const char *sqlstate)
{
	static const char classes[][3] = { "53", "57", "58", "XX" };

	for (size_t i = 0; i < ARRAY_LEN(classes); i++)
		if (memcmp(sqlstate, classes[i], 2) == 0)
			return true;
	return false;
}

static void error(struct probe *probe, const uint8_t *fields, const uint8_t *end)
{
	const char *sqlstate = field_of(fields, end, 'C'), *said = field_of(fields, end, 'M');

	if (sqlstate == NULL || strlen(sqlstate) != SQLSTATE_LENGTH)
		probe_conclude(probe, PROBE_BAD, "an error without its code");
	else
		probe_conclude_said(probe, cannot_serve(sqlstate) ? PROBE_BAD : PROBE_GOOD,
		        cannot_serve(sqlstate) ? "refuses connections" : "alive, but refused the login", said ? said : sqlstate,
		        PROBE_KEPT_MAX);
}

static bool is_length(uint8_t type, uint32_t length)
{
	return length >= LENGTH_MIN && length <= (type == 'R' ? AUTHENTICATION_MAX : ERROR_MAX);
}

bool probe_postgres_step(struct probe *probe)
{
	size_t count;
	const uint8_t *at = probe_unread(probe, &count);

	if ((at[0] != 'R' && at[0] != 'E') || (count >= HEADER_BYTES && !is_length(at[0], big_endian(at + 1)))) {
		probe_conclude(probe, PROBE_BAD, "not an answer of PostgreSQL");
		return false;
	}
	if (count < HEADER_BYTES)
		return false;
	size_t length = big_endian(at + 1) + TYPE_BYTES;
	length = length < PROBE_KEPT_MAX ? length : PROBE_KEPT_MAX; /* of an error that is longer the beginning will do */
	if (count >= length && at[0] == 'R')
		authentication(probe, at + HEADER_BYTES);
	else if (count >= length)
		error(probe, at + HEADER_BYTES, at + length);
	return false;
}
