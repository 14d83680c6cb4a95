/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "master/handover.h"
#include "os/channel.h"

static int open_some(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_true(fd > STDERR_FILENO);
	return fd;
}

static void fill(struct handover *handover, const int fds[3])
{
	const struct handed items[] = {
		{ .kind = HANDED_CHANNEL, .fd = fds[0] },
		{ .kind = HANDED_LISTENER, .fd = fds[1], .number = 1, .extra = UINT64_MAX, .name = "a b", .text = "unix:/x y" },
		{ .kind = HANDED_LISTENER, .fd = fds[2], .number = 2, .name = "", .text = "-" },
	};
	*handover = (struct handover){ .generation = 41, .runtime_dir = "/run/a dir" };
	for (size_t i = 0; i < ARRAY_LEN(items); i++)
		assert_int_equal(handover_add(handover, &items[i]), 0);
}

static void check(const struct handover *handover, const int fds[3])
{
	assert_int_equal(handover->generation, 41);
	assert_string_equal(handover->runtime_dir, "/run/a dir");
	assert_int_equal(handover->n_items, 3);
	struct handed *item = handover_next(handover, HANDED_LISTENER, NULL);
	assert_non_null(item);
	assert_int_equal(item->fd, fds[1]);
	assert_int_equal(item->number, 1);
	assert_true(item->extra == UINT64_MAX);
	assert_string_equal(item->name, "a b");
	assert_string_equal(item->text, "unix:/x y");
	item = handover_next(handover, HANDED_LISTENER, item);
	assert_non_null(item);
	assert_string_equal(item->name, "");
	assert_string_equal(item->text, "-");
	assert_null(handover_next(handover, HANDED_LISTENER, item));
	assert_null(handover_next(handover, HANDED_BELL, NULL));
	assert_true(handover_named(handover, HANDED_LISTENER, "a b", "unix:/x y"));
	assert_false(handover_named(handover, HANDED_LISTENER, "a", "unix:/x y"));
}

/* As from one program to the next, which is the same process. */
static void test_written_and_read(void **state)
{
	struct handover out, in;
	char why[256];
	(void)state;
	int fds[3] = { open_some(), open_some(), open_some() };
	fill(&out, fds);
	int memfd = handover_write(&out);
	assert_true(memfd >= 0);
	assert_int_equal(handover_export(&out, memfd), 0);
	handover_free(&out); /* leaves the descriptors open */
	for (int i = 0; i < 3; i++)
		assert_int_equal(fcntl(fds[i], F_GETFD), 0);
	assert_int_equal(handover_import(), memfd);
	assert_int_equal(handover_import(), -ENOENT);
	assert_int_equal(handover_read(memfd, &in, why, sizeof why), 0);
	assert_int_equal(fcntl(memfd, F_GETFD), -1);
	check(&in, fds);
	for (int i = 0; i < 3; i++)
		assert_int_equal(fcntl(fds[i], F_GETFD), FD_CLOEXEC);
	assert_int_equal(handed_take(handover_next(&in, HANDED_CHANNEL, NULL)), fds[0]);
	handover_free(&in);
	assert_int_equal(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
	assert_int_equal(fcntl(fds[1], F_GETFD), -1);
	assert_int_equal(fcntl(fds[2], F_GETFD), -1);
	close(fds[0]);
}

static void test_environment_of_somebody_else(void **state)
{
	static const char *const values[] = { "", "x", "7", "7:", "7:1x", ":1", "-1:1", "1:%d", "7:1", "7:%d " };
	char value[64];
	(void)state;
	assert_int_equal(handover_import(), -ENOENT);
	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		const char *percent = strstr(values[i], "%d");
		(void)snprintf(value, sizeof value, "%.*s", (int)(percent ? percent - values[i] : (long)strlen(values[i])), values[i]);
		if (percent)
			(void)snprintf(value + strlen(value), sizeof value - strlen(value), "%d%s", (int)getpid(), percent + 2);
		assert_int_equal(setenv("AEGIS_UPGRADE", value, 1), 0);
		assert_int_equal(handover_import(), -ENOENT);
		assert_null(getenv("AEGIS_UPGRADE"));
	}
}

static int parse(const char *text)
{
	struct handover handover = { 0 };
	char why[256] = "", *copy = strdup(text);
	assert_non_null(copy);
	int error = handover_parse(copy, &handover, why, sizeof why);
	assert_int_equal(error != 0, why[0] != '\0');
	if (error)
		return error;
	for (size_t i = 0; i < handover.n_items; i++)
		handover.items[i].fd = -1; /* they are only numbers */
	handover_free(&handover);
	return 0;
}

#define BEGIN "aegis-handover 1\nruntime_dir /run\n"

static void test_damaged_texts(void **state)
{
	static const char *const texts[] = { "", "\n", "end\n", "aegis-handover 2\nruntime_dir /run\nend\n", "aegis-handover 1\nend\n",
		BEGIN, BEGIN "end", BEGIN "\nend\n", BEGIN "generation\nend\n", BEGIN "generation x\nend\n",
		BEGIN "generation 4294967295\nend\n", BEGIN "runtime_dir\nend\n", BEGIN "runtime_dir -\nend\n", BEGIN "item\nend\n",
		BEGIN "item bell\nend\n", BEGIN "item bell 5\nend\n", BEGIN "item bell 5 1\nend\n", BEGIN "item bell 5 1 1\nend\n",
		BEGIN "item bell 5 1 1 x\nend\n", BEGIN "item bell 2 1 1 x y\nend\n", BEGIN "item bell -5 1 1 x y\nend\n",
		BEGIN "item bell 2147483648 1 1 x y\nend\n", BEGIN "item bell 5 4294967296 1 x y\nend\n",
		BEGIN "item bell 5 1 1 %zz y\nend\n", BEGIN "item bell 5 1 1 x %0\nend\n" };
	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (parse(texts[i]) == 0)
			fail_msg("taken for good: %s", texts[i]);
	assert_int_equal(parse(BEGIN "end\n"), 0);
	assert_int_equal(parse(BEGIN "weather fine\nitem new_kind 5 1 1 x y\nitem bell 6 1 1 - -\nend\nand more"), 0);
}

static void test_changed_bytes(void **state)
{
	static const char text[] = BEGIN "generation 7\nitem listener 12 0 0 app 127.0.0.1:8080\nitem bell 13 1 0 - -\nend\n";
	(void)state;
	for (size_t at = 0; at < sizeof text - 1; at++)
		for (int byte = 0; byte < 256; byte++) {
			char copy[sizeof text];
			memcpy(copy, text, sizeof text);
			copy[at] = (char)byte;
			int error = parse(copy);
			assert_true(error == 0 || error == -EPROTO);
		}
	for (size_t length = 0; length < sizeof text - 1; length++) {
		char copy[sizeof text] = "";
		memcpy(copy, text, length);
		assert_int_equal(parse(copy), -EPROTO);
	}
}

static void test_too_many_items(void **state)
{
	(void)state;
	char *text;
	size_t length;
	FILE *out = open_memstream(&text, &length);
	assert_non_null(out);
	fputs(BEGIN, out);
	for (int i = 0; i <= HANDOVER_ITEMS_MOST; i++)
		fprintf(out, "item bell %d 0 0 - -\n", i + 3);
	fputs("end\n", out);
	assert_int_equal(fclose(out), 0);
	assert_int_equal(parse(text), -EPROTO);
	free(text);
}

static int read_text(const char *text)
{
	struct handover handover;
	char why[256], name[] = "/tmp/aegis-handover-XXXXXX";
	int fd = mkostemp(name, O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(unlink(name), 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	int error = handover_read(fd, &handover, why, sizeof why);
	if (!error)
		handover_free(&handover);
	return error;
}

/* Descriptors that were not handed over are not touched. */
static void test_descriptors_that_are_not_ours(void **state)
{
	struct handover handover;
	char text[256], why[256];
	(void)state;
	int own = open_some(), twice = open_some();
	(void)snprintf(text, sizeof text, BEGIN "item bell %d 0 0 - -\nend\n", own);
	assert_int_equal(read_text(text), -EBADF);
	assert_int_equal(read_text(BEGIN "item bell 12345 0 0 - -\nend\n"), -EBADF);
	assert_int_equal(fcntl(twice, F_SETFD, 0), 0);
	(void)snprintf(text, sizeof text, BEGIN "item bell %d 0 0 - -\nitem box_put %d 0 0 - -\nend\n", twice, twice);
	assert_int_equal(read_text(text), -EBADF);
	assert_int_equal(fcntl(own, F_GETFD), FD_CLOEXEC);
	close(own);
	close(twice);
	int pipes[2];
	assert_int_equal(pipe(pipes), 0);
	assert_true(handover_read(pipes[0], &handover, why, sizeof why) < 0);
	close(pipes[1]);
	assert_true(handover_read(open("/tmp", O_RDONLY | O_CLOEXEC), &handover, why, sizeof why) < 0);
}

static void test_texts_between_the_two(void **state)
{
	struct channel_message message;
	int ends[2], fd;
	(void)state;
	assert_int_equal(channel_pair(ends), 0);
	assert_int_equal(upgrade_say(ends[0], UPGRADE_FAILED, "because", 7), 0);
	assert_int_equal(channel_receive(ends[1], &message, &fd), 0);
	assert_int_equal(message.kind, UPGRADE_FAILED);
	char *text = upgrade_read_text(fd, 7);
	assert_string_equal(text, "because");
	free(text);
	assert_int_equal(upgrade_say(ends[0], UPGRADE_FAILED, "because", 7), 0);
	assert_int_equal(channel_receive(ends[1], &message, &fd), 0);
	assert_null(upgrade_read_text(fd, 6));
	close(ends[1]);
	assert_int_equal(upgrade_say(ends[0], UPGRADE_FAILED, "", 0), -EPIPE);
	close(ends[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_written_and_read),
		cmocka_unit_test(test_environment_of_somebody_else),
		cmocka_unit_test(test_damaged_texts),
		cmocka_unit_test(test_changed_bytes),
		cmocka_unit_test(test_too_many_items),
		cmocka_unit_test(test_descriptors_that_are_not_ours),
		cmocka_unit_test(test_texts_between_the_two),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
