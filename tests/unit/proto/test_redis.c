#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "exchange.h"
#include "proto/framing.h"

#define KIND FRAMING_REDIS
#define GET ">*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
#define EVAL ">*3\r\n$4\r\nEVAL\r\n$1\r\ns\r\n$1\r\n0\r\n"

static void ask(struct framing *framing, const char *part)
{
	framing_request(framing, &part[1], strlen(part) - 1);
}

static void test_commands_and_answers(void **state)
{
	(void)state;
	ASSERT_CLEAN(GET, "<$5\r\nhello\r\n");
	ASSERT_CLEAN(">*3\r\n$3\r\nset\r\n$1\r\nk\r\n$4\r\n\r\n\r\n\r\n", "<+OK\r\n");
	ASSERT_CLEAN(">*1\r\n$4\r\nPiNg\r\n", "<+PONG\r\n");
	ASSERT_CLEAN(">*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", "<$0\r\n\r\n");
	ASSERT_OWED(GET);
	ASSERT_OWED(GET, "<$5\r\nhello\r");
	ASSERT_OWED(GET, GET, "<$-1\r\n");
	ASSERT_CLEAN(GET, GET, GET, "<$-1\r\n$-1\r\n", "<$-1\r\n");
	ASSERT_CLEAN(GET, "<$-1\r\n", GET, "<$-1\r\n");
}

static void test_every_type_of_answer(void **state)
{
	(void)state;
	ASSERT_CLEAN(EVAL, "<+OK\r\n");
	ASSERT_CLEAN(EVAL, "<+\r\n");
	ASSERT_CLEAN(EVAL, "<-ERR no such thing\r\n");
	ASSERT_CLEAN(EVAL, "<:-1\r\n");
	ASSERT_CLEAN(EVAL, "<*-1\r\n");
	ASSERT_CLEAN(EVAL, "<*0\r\n");
	ASSERT_CLEAN(EVAL, "<*3\r\n:1\r\n$2\r\n*9\r\n*2\r\n+a\r\n-b\r\n");
	ASSERT_CLEAN(EVAL, "<_\r\n");
	ASSERT_CLEAN(EVAL, "<#t\r\n");
	ASSERT_CLEAN(EVAL, "<,1.25\r\n");
	ASSERT_CLEAN(EVAL, "<(3492890328409238509324850943850943825024385\r\n");
	ASSERT_CLEAN(EVAL, "<!5\r\nERR a\r\n");
	ASSERT_CLEAN(EVAL, "<=7\r\ntxt:abc\r\n");
	ASSERT_CLEAN(EVAL, "<%2\r\n+a\r\n:1\r\n+b\r\n%1\r\n+c\r\n:2\r\n");
	ASSERT_CLEAN(EVAL, "<~2\r\n+a\r\n+b\r\n");
}

static void test_an_attribute_comes_before_its_value(void **state)
{
	(void)state;
	ASSERT_OWED(EVAL, "<|1\r\n+ttl\r\n:5\r\n");
	ASSERT_CLEAN(EVAL, "<|1\r\n+ttl\r\n:5\r\n+value\r\n");
	ASSERT_CLEAN(EVAL, "<*2\r\n|1\r\n+ttl\r\n*1\r\n:5\r\n+a\r\n+b\r\n");
	ASSERT_OWED(EVAL, "<*2\r\n|1\r\n+ttl\r\n*1\r\n:5\r\n+a\r\n");
	ASSERT_CLEAN(EVAL, "<|1\r\n|1\r\n+x\r\n+y\r\n+ttl\r\n:5\r\n+value\r\n");
	ASSERT_OWED(EVAL, "<|0\r\n");
	ASSERT_CLEAN(EVAL, "<|0\r\n+value\r\n");
}

static void test_a_command_in_the_middle_is_partial(void **state)
{
	static const char command[] = "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n";

	(void)state;
	for (size_t length = 1; length < sizeof command - 1; length++) {
		char part[sizeof command + 1];

		snprintf(part, sizeof part, ">%.*s", (int)length, command);
		ASSERT_PARTIAL(part);
		ASSERT_PARTIAL(GET, part, "<+OK\r\n");
	}
}

static void test_an_answer_in_the_middle_is_owed(void **state)
{
	static const char answer[] = "*3\r\n$5\r\nhello\r\n%1\r\n+a\r\n:1\r\n$-1\r\n";

	(void)state;
	for (size_t length = 1; length < sizeof answer - 1; length++) {
		char part[sizeof answer + 1];

		snprintf(part, sizeof part, "<%.*s", (int)length, answer);
		ASSERT_OWED(EVAL, part);
	}
}

static void test_unasked_answers_pin(void **state)
{
	(void)state;
	ASSERT_PINNED("<+OK\r\n");
	ASSERT_PINNED("<-DENIED\r\n");
	ASSERT_PINNED(GET, "<+OK\r\n+");
	ASSERT_PINNED(">*2\r\n$3\r\nGET\r\n$1\r\nk\r", "<+OK\r\n");
}

static void test_pushed_streamed_and_unknown_types_pin(void **state)
{
	(void)state;
	ASSERT_PINNED(EVAL, "<>2\r\n+message\r\n+a\r\n");
	ASSERT_PINNED(EVAL, "<*1\r\n>1\r\n+a\r\n");
	ASSERT_PINNED(EVAL, "<$?\r\n;4\r\nabcd\r\n;0\r\n");
	ASSERT_PINNED(EVAL, "<*?\r\n:1\r\n.\r\n");
	ASSERT_PINNED(EVAL, "<.\r\n");
	ASSERT_PINNED(EVAL, "<OK\r\n");
	ASSERT_PINNED(EVAL, "<\r\n");
}

static void test_inline_commands_pin(void **state)
{
	(void)state;
	ASSERT_PINNED(">PING\r\n");
	ASSERT_PINNED(">\r\n");
	ASSERT_PINNED(GET, ">\n");
	ASSERT_PINNED(">*1\r\n+PING\r\n");
	ASSERT_PINNED(">*1\r\n:1\r\n");
	ASSERT_PINNED(">*1\r\n*1\r\n$4\r\nPING\r\n");
}

static void assert_command(const char *name, bool stateless)
{
	char part[128];

	snprintf(part, sizeof part, ">*1\r\n$%zu\r\n%s\r\n", strlen(name), name);
	if (stateless)
		ASSERT_OWED(part);
	else
		ASSERT_PINNED(part);
}

static void test_commands_that_leave_nothing(void **state)
{
	static const char *const names[] = { "GET", "SET", "MGET", "DEL", "HSET", "HGETALL", "LPUSH", "RPOPLPUSH", "SADD", "ZADD",
		"ZUNIONSTORE", "PING", "ECHO", "INFO", "EVAL", "EVALSHA", "FCALL_RO", "PUBLISH", "INCR", "EXPIRE", "TTL", "SCAN", "XADD",
		"PFCOUNT", "GEORADIUSBYMEMBER_RO", "append", "zunionstore", "Type" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_command(names[i], true);
}

static void test_commands_that_leave_state_pin(void **state)
{
	static const char *const names[] = { "AUTH", "HELLO", "SELECT", "CLIENT", "MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH",
		"SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "MONITOR", "BLPOP", "BRPOP", "BLMOVE", "BLMPOP", "BRPOPLPUSH",
		"BZPOPMIN", "BZPOPMAX", "BZMPOP", "XREAD", "XREADGROUP", "WAIT", "WAITAOF", "READONLY", "READWRITE", "ASKING", "RESET",
		"QUIT", "SHUTDOWN", "MIGRATE", "SYNC", "PSYNC", "REPLCONF", "SCRIPT", "FUNCTION", "DEBUG", "CONFIG", "ACL", "JSON.GET",
		"FT.SEARCH", "MODULE", "CLUSTER", "SWAPDB", "NOSUCH", "GE", "GETT", " GET", "GET ", "G", "A", "zzzz",
		"GEORADIUSBYMEMBER_ROX" };

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_command(names[i], false);
	ASSERT_PINNED(">*1\r\n$0\r\n\r\n");
}

static void test_a_name_with_nul_is_another_name(void **state)
{
	static const char command[] = "*1\r\n$5\r\nPING\0\r\n";
	struct framing framing;

	(void)state;
	framing_init(&framing, FRAMING_REDIS);
	framing_request(&framing, command, sizeof command - 1);
	assert_int_equal(framing_verdict(&framing), FRAMING_PINNED);
}

static void test_only_the_first_argument_is_the_command(void **state)
{
	(void)state;
	ASSERT_CLEAN(">*2\r\n$4\r\nECHO\r\n$5\r\nMULTI\r\n", "<$5\r\nMULTI\r\n");
	ASSERT_CLEAN(">*2\r\n$4\r\nECHO\r\n$21\r\n*1\r\n$5\r\nMULTI\r\n......\r\n", "<+\r\n");
}

static void test_unusual_numbers_pin(void **state)
{
	(void)state;
	ASSERT_PINNED(">*0\r\n");
	ASSERT_PINNED(">*-1\r\n");
	ASSERT_PINNED(">*01\r\n");
	ASSERT_PINNED(">*+1\r\n");
	ASSERT_PINNED(">* 1\r\n");
	ASSERT_PINNED(">*1 \r\n");
	ASSERT_PINNED(">*\r\n");
	ASSERT_PINNED(">*1\n");
	ASSERT_PINNED(">*1\r$");
	ASSERT_PINNED(">*1x\r\n");
	ASSERT_PINNED(">*1048577\r\n");
	ASSERT_PARTIAL(">*1048576\r\n");
	ASSERT_PINNED(">*99999999999\r\n");
	ASSERT_PINNED(">*18446744073709551617\r\n");
	ASSERT_PINNED(">*2\r\n$3\r\nGET\r\n$-1\r\n");
	ASSERT_PINNED(">*2\r\n$3\r\nGET\r\n$01\r\n");
	ASSERT_PINNED(">*2\r\n$3\r\nGET\r\n$536870913\r\n");
	ASSERT_PARTIAL(">*2\r\n$3\r\nGET\r\n$536870912\r\n");
	ASSERT_PINNED(">*2\r\n$3\r\nGET\r\n$4294967297\r\n");
	ASSERT_PINNED(EVAL, "<$-2\r\n");
	ASSERT_PINNED(EVAL, "<$--1\r\n");
	ASSERT_PINNED(EVAL, "<$-\r\n");
	ASSERT_PINNED(EVAL, "<$-10\r\n");
	ASSERT_PINNED(EVAL, "<$1-\r\n");
	ASSERT_PINNED(EVAL, "<%-1\r\n");
	ASSERT_PINNED(EVAL, "<=-1\r\n");
	ASSERT_PINNED(EVAL, "<$536870913\r\n");
	ASSERT_PINNED(EVAL, "<*1073741824\r\n");
	ASSERT_OWED(EVAL, "<%1073741823\r\n");
}

static void test_unusual_ends_pin(void **state)
{
	(void)state;
	ASSERT_PINNED(">*2\r\n$3\r\nGET\r\n$1\r\nkk\r\n");
	ASSERT_PINNED(">*2\r\n$3\r\nGET\r\n$1\r\nk\n\n");
	ASSERT_PINNED(">*2\r\n$3\r\nGET\r\n$1\r\nk\rx");
	ASSERT_PINNED(">*2\r\n$3\r\nGETX\r\n");
	ASSERT_PINNED(EVAL, "<+OK\n");
	ASSERT_PINNED(EVAL, "<+O\rK\r\n");
	ASSERT_PINNED(EVAL, "<+O\nK\r\n");
	ASSERT_PINNED(EVAL, "<$2\r\nabc\r\n");
}

static void test_depth_is_bounded(void **state)
{
	(void)state;
	ASSERT_CLEAN(EVAL, "<*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n");
	ASSERT_CLEAN(EVAL, "<*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*0\r\n");
	ASSERT_CLEAN(EVAL, "<|1\r\n|1\r\n|1\r\n|1\r\n|1\r\n|1\r\n|1\r\n|1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n"
	                   ":1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n");
	ASSERT_PINNED(EVAL, "<*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n");
}

static void test_a_disagreement_on_the_protocol_pins(void **state)
{
	(void)state;
	ASSERT_PINNED(EVAL, "<-ERR Protocol error: unauthenticated multibulk length\r\n");
	ASSERT_PINNED(EVAL, "<-ERR Protocol error\r\n");
	ASSERT_CLEAN(EVAL, "<-ERR Protocol erro\r\n");
	ASSERT_CLEAN(EVAL, "<+ERR Protocol error\r\n");
	ASSERT_CLEAN(EVAL, "<-NOAUTH Authentication required.\r\n");
}

static void test_a_long_line_pins(void **state)
{
	struct framing framing;
	char text[1024];

	(void)state;
	memset(text, 'x', sizeof text);
	framing_init(&framing, FRAMING_REDIS);
	ask(&framing, EVAL);
	framing_response(&framing, "+", 1);
	for (int i = 0; i < 64; i++)
		framing_response(&framing, text, sizeof text);
	assert_int_equal(framing_verdict(&framing), FRAMING_OWED);
	framing_response(&framing, "x", 1);
	assert_int_equal(framing_verdict(&framing), FRAMING_PINNED);
}

static void test_a_large_string_is_skipped(void **state)
{
	static char zeros[1 << 20];
	struct framing framing;

	(void)state;
	framing_init(&framing, FRAMING_REDIS);
	ask(&framing, GET);
	framing_response(&framing, "$536870912\r\n", 12);
	for (int i = 0; i < 512; i++)
		framing_response(&framing, zeros, sizeof zeros);
	assert_int_equal(framing_verdict(&framing), FRAMING_OWED);
	framing_response(&framing, "\r\n", 2);
	assert_int_equal(framing_verdict(&framing), FRAMING_CLEAN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_commands_and_answers),
		cmocka_unit_test(test_every_type_of_answer),
		cmocka_unit_test(test_an_attribute_comes_before_its_value),
		cmocka_unit_test(test_a_command_in_the_middle_is_partial),
		cmocka_unit_test(test_an_answer_in_the_middle_is_owed),
		cmocka_unit_test(test_unasked_answers_pin),
		cmocka_unit_test(test_pushed_streamed_and_unknown_types_pin),
		cmocka_unit_test(test_inline_commands_pin),
		cmocka_unit_test(test_commands_that_leave_nothing),
		cmocka_unit_test(test_commands_that_leave_state_pin),
		cmocka_unit_test(test_a_name_with_nul_is_another_name),
		cmocka_unit_test(test_only_the_first_argument_is_the_command),
		cmocka_unit_test(test_unusual_numbers_pin),
		cmocka_unit_test(test_unusual_ends_pin),
		cmocka_unit_test(test_depth_is_bounded),
		cmocka_unit_test(test_a_disagreement_on_the_protocol_pins),
		cmocka_unit_test(test_a_long_line_pins),
		cmocka_unit_test(test_a_large_string_is_skipped),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
