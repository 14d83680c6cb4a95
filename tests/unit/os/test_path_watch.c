/* clang-format off */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <errno.h>
#include <sys/wait.h>

#include "os/path_watch.h"
#include "scratch.h"

static struct scratch scratch;
static int fd;

static int setup(void **state)
{
	(void)state;
	scratch_make(&scratch);
	fd = path_watch_open();
	assert_true(fd >= 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	close(fd);
	scratch_remove(&scratch);
	return 0;
}

static const char *at(const char *name)
{
	return scratch_path(&scratch, name);
}

static void look(const char *name)
{
	struct path_watch *watch = path_watch_begin(fd);
	assert_non_null(watch);
	assert_int_equal(path_watch_add(watch, at(name)), 0);
	path_watch_end(watch);
}

static void write_file(const char *name)
{
	scratch_write(&scratch, name, "text");
}

static void move(const char *from, const char *to)
{
	assert_int_equal(rename(at(from), at(to)), 0);
}

static void make_link(const char *target, const char *name)
{
	assert_int_equal(symlink(target, at(name)), 0);
}

static void take_away(const char *name)
{
	assert_int_equal(remove(at(name)), 0);
}

static void make_folder(const char *name)
{
	assert_int_equal(mkdir(at(name), 0700), 0);
}

/* Something was heard; who hears looks again. */
#define heard_and_looked(name)                      \
	do {                                        \
		assert_true(path_watch_heard(fd));  \
		look(name);                         \
		assert_false(path_watch_heard(fd)); \
	} while (0)

/* How many watches there are. */
static size_t count(void)
{
	char path[64], line[512];
	size_t n = 0;
	(void)snprintf(path, sizeof path, "/proc/self/fdinfo/%d", fd);
	FILE *list = fopen(path, "re");
	assert_non_null(list);
	while (fgets(line, sizeof line, list))
		n += strncmp(line, "inotify ", 8) == 0;
	(void)fclose(list);
	return n;
}

static void what_happens_to_a_file(void **state)
{
	(void)state;
	write_file("a/b/one");
	look("a/b/one");
	assert_false(path_watch_heard(fd));
	write_file("a/b/one");
	assert_true(path_watch_heard(fd));
	assert_false(path_watch_heard(fd));
	write_file("a/b/new");
	move("a/b/new", "a/b/one");
	assert_true(path_watch_heard(fd));
	assert_int_equal(chmod(at("a/b/one"), 0600), 0);
	assert_true(path_watch_heard(fd));
	take_away("a/b/one");
	heard_and_looked("a/b/one");
	write_file("a/b/one");
	assert_true(path_watch_heard(fd));
}

static void folders_on_the_way_are_not_listened_to(void **state)
{
	(void)state;
	write_file("a/b/one");
	look("a/b/one");
	write_file("a/other");
	write_file("other");
	make_folder("a/folder");
	move("a/other", "a/another");
	take_away("a/another");
	assert_false(path_watch_heard(fd));
}

static void a_folder_that_is_removed_and_made_again(void **state)
{
	(void)state;
	write_file("a/b/c/one");
	look("a/b/c/one");
	size_t most = count();
	take_away("a/b/c/one");
	take_away("a/b/c");
	heard_and_looked("a/b/c/one");
	assert_true(count() < most);
	make_folder("a/b/c");
	heard_and_looked("a/b/c/one");
	write_file("a/b/c/one");
	heard_and_looked("a/b/c/one");
	/* All of the way. */
	for (const char *const *name = (const char *const[]){ "a/b/c/one", "a/b/c", "a/b", "a", NULL }; *name; name++)
		take_away(*name);
	heard_and_looked("a/b/c/one");
	for (const char *const *name = (const char *const[]){ "a", "a/b", "a/b/c", NULL }; *name; name++) {
		make_folder(*name);
		heard_and_looked("a/b/c/one");
	}
	write_file("a/b/c/one");
	heard_and_looked("a/b/c/one");
	assert_int_equal(count(), most);
	/* And what was listened to for a while no longer is. */
	write_file("other");
	write_file("a/other");
	assert_false(path_watch_heard(fd));
}

/* The whole tree appears at once. */
static void a_folder_that_is_moved_into_its_place(void **state)
{
	(void)state;
	write_file("stage/b/one");
	look("live/b/one");
	assert_false(path_watch_heard(fd));
	move("stage", "live");
	heard_and_looked("live/b/one");
	write_file("live/b/one");
	assert_true(path_watch_heard(fd));
	/* Away, and another one comes; what is written in the old one is of no interest then. */
	write_file("stage/b/one");
	move("live", "old");
	heard_and_looked("live/b/one");
	move("stage", "live");
	heard_and_looked("live/b/one");
	write_file("old/b/one");
	assert_false(path_watch_heard(fd));
	write_file("live/b/one");
	assert_true(path_watch_heard(fd));
}

/* Kubernetes: one -> ..data/one, ..data -> ..1. */
static void a_link_to_a_folder(void **state)
{
	(void)state;
	write_file("certs/..1/one");
	make_link("..1", "certs/..data");
	make_link("..data/one", "certs/one");
	look("certs/one");
	size_t most = count();
	for (int turn = 2; turn < 6; turn++) {
		char name[64], target[16];
		(void)snprintf(target, sizeof target, "..%d", turn);
		(void)snprintf(name, sizeof name, "certs/..%d/one", turn);
		write_file(name);
		make_link(target, "certs/..data_tmp");
		move("certs/..data_tmp", "certs/..data");
		(void)snprintf(name, sizeof name, "certs/..%d/one", turn - 1);
		take_away(name);
		(void)snprintf(name, sizeof name, "certs/..%d", turn - 1);
		take_away(name);
		heard_and_looked("certs/one");
		assert_int_equal(count(), most);
		(void)snprintf(name, sizeof name, "certs/..%d/one", turn);
		write_file(name);
		assert_true(path_watch_heard(fd));
	}
}

static void a_link_on_the_way(void **state)
{
	(void)state;
	write_file("v1/d/one");
	write_file("v2/d/one");
	make_folder("in");
	make_link("../v1", "in/current");
	look("in/current/d/one");
	write_file("in/other");
	assert_false(path_watch_heard(fd)); /* a link is watched by itself */
	make_link("../v2", "in/new");
	move("in/new", "in/current");
	heard_and_looked("in/current/d/one");
	write_file("v1/d/one");
	assert_false(path_watch_heard(fd));
	write_file("v2/d/one");
	assert_true(path_watch_heard(fd));
	/* Removed, and made again. */
	take_away("in/current");
	heard_and_looked("in/current/d/one");
	make_link("../v1", "in/current");
	heard_and_looked("in/current/d/one");
	/* What it leads to is renamed, and comes back. */
	move("v1", "v3");
	heard_and_looked("in/current/d/one");
	move("v3", "v1");
	heard_and_looked("in/current/d/one");
	write_file("v1/d/one");
	assert_true(path_watch_heard(fd));
}

/* certbot: live/x/one -> ../../archive/x/one1. */
static void a_link_to_a_file(void **state)
{
	(void)state;
	write_file("archive/x/one1");
	make_folder("live");
	make_folder("live/x");
	make_link("../../archive/x/one1", "live/x/one");
	look("live/x/one");
	write_file("archive/x/one2");
	heard_and_looked("live/x/one");
	make_link("../../archive/x/one2", "live/x/new");
	move("live/x/new", "live/x/one");
	heard_and_looked("live/x/one");
	/* The archive is moved away, and another one comes. */
	move("archive", "old");
	heard_and_looked("live/x/one");
	make_folder("archive");
	heard_and_looked("live/x/one");
	write_file("archive/x/one2");
	heard_and_looked("live/x/one");
	write_file("archive/x/one2");
	assert_true(path_watch_heard(fd));
}

static void what_cannot_be_followed_ends(void **state)
{
	(void)state;
	make_link("b", "a");
	make_link("a", "b");
	make_link("self/../self/../self", "self"); /* each level would be three */
	struct path_watch *watch = path_watch_begin(fd);
	assert_int_equal(path_watch_add(watch, at("a/one")), -ELOOP);
	assert_int_equal(path_watch_add(watch, at("a")), 0);
	assert_int_equal(path_watch_add(watch, at("self/one")), -ELOOP);
	assert_int_equal(path_watch_add(watch, "/"), 0);
	path_watch_end(watch);
	write_file("file");
	look("file/x/one"); /* a file on the way */
	take_away("file");
	assert_true(path_watch_heard(fd));
}

/* Many paths at once, with beginnings in common that are there and that are not. */
static void several_paths(void **state)
{
	(void)state;
	static const char *const names[] = { "a/one", "a/two", "gone/x/one", "gone/x/two", "gone/y/one", "b/c/one", "b/c/two", "b/one" };
	write_file("a/one");
	write_file("b/c/one");
	write_file("b/one");
	struct path_watch *watch = path_watch_begin(fd);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		assert_int_equal(path_watch_add(watch, at(names[i])), 0);
	path_watch_end(watch);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strncmp(names[i], "gone", 4) == 0)
			continue;
		write_file(names[i]);
		assert_true(path_watch_heard(fd));
	}
	make_folder("gone");
	assert_true(path_watch_heard(fd));
}

/* A child watches what this process could not look into, and ends. */
static void somebody_else_says_what_is_watched(void **state)
{
	(void)state;
	int status;
	write_file("a/one");
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct path_watch *watch = path_watch_begin(fd);
		int error = path_watch_add(watch, at("a/one"));
		path_watch_end(watch);
		_exit(error ? 1 : 0);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	write_file("a/one");
	assert_true(path_watch_heard(fd));
}

static void a_folder_that_cannot_be_read_is_told(void **state)
{
	(void)state;
	if (geteuid() == 0)
		skip(); /* who may do anything */
	write_file("a/b/one");
	assert_int_equal(chmod(at("a/b"), 0100), 0);
	struct path_watch *watch = path_watch_begin(fd);
	assert_int_equal(path_watch_add(watch, at("a/b/one")), -EACCES);
	assert_int_equal(path_watch_add(watch, at("a/b/two")), 0); /* once for each folder */
	path_watch_end(watch);
	assert_int_equal(chmod(at("a/b"), 0700), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(what_happens_to_a_file, setup, teardown),
		cmocka_unit_test_setup_teardown(folders_on_the_way_are_not_listened_to, setup, teardown),
		cmocka_unit_test_setup_teardown(a_folder_that_is_removed_and_made_again, setup, teardown),
		cmocka_unit_test_setup_teardown(a_folder_that_is_moved_into_its_place, setup, teardown),
		cmocka_unit_test_setup_teardown(a_link_to_a_folder, setup, teardown),
		cmocka_unit_test_setup_teardown(a_link_on_the_way, setup, teardown),
		cmocka_unit_test_setup_teardown(a_link_to_a_file, setup, teardown),
		cmocka_unit_test_setup_teardown(what_cannot_be_followed_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(several_paths, setup, teardown),
		cmocka_unit_test_setup_teardown(somebody_else_says_what_is_watched, setup, teardown),
		cmocka_unit_test_setup_teardown(a_folder_that_cannot_be_read_is_told, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
