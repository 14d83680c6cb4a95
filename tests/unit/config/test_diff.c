/* What differs between two trees of settings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/text.h"
#include "config/diff.h"
#include "config/options.h"
#include "loading.h"

struct told {
	char bytes[8192];
	struct text text;
	size_t count, in_place;
	char path[256];
};

static void on_change(void *arg, const struct config_change *change)
{
	static const char *const kinds[] = {
		[CONFIG_CHANGED] = "", [CONFIG_ADDED] = " added", [CONFIG_REMOVED] = " removed", [CONFIG_REORDERED] = " reordered"
	};
	struct told *told = arg;

	assert_true((change->kind == CONFIG_CHANGED) == (change->option != NULL));
	text_add(&told->text, "%s%s", change->path, kinds[change->kind]);
	if (change->kind == CONFIG_CHANGED)
		text_add(&told->text, " %s -> %s", change->before, change->after);
	text_add(&told->text, change->in_place ? " *\n" : "\n");
	told->count++;
	told->in_place += change->in_place;
	(void)text_copy(told->path, sizeof told->path, change->path);
}

static void diff(const char *before, const char *after, struct told *told)
{
	struct config *old = load_text(before), *new = load_text(after);

	*told = (struct told){ .count = 0 };
	told->text = text_of(told->bytes, sizeof told->bytes);
	config_diff(old, new, on_change, told);
	assert_false(told->text.cut);
	config_free(old);
	config_free(new);
}

static void differs(const char *before, const char *after, const char *expected)
{
	struct told told;

	diff(before, after, &told);
	assert_string_equal(told.bytes, expected);
}

#define SERVERS(rows) LISTENER "upstreams = ( { name = \"app\"; servers = ( " rows " ); } );\n"
#define UPSTREAM_WITH(more) LISTENER "upstreams = ( { name = \"app\"; servers = ( { address = \"127.0.0.1:3000\"; } ); " more " } );\n"
#define A "{ name = \"a\"; address = \"10.0.0.1:1\"; }"
#define B "{ name = \"b\"; address = \"10.0.0.2:1\"; }"
#define C "{ name = \"c\"; address = \"10.0.0.3:1\"; }"

static void nothing_differs_from_itself(void **state)
{
	(void)state;
	differs(LISTENER UPSTREAM, LISTENER UPSTREAM, "");
	differs(SERVERS(A ", " B), SERVERS(A ", { name = \"b\"; address = \"10.0.0.2:1\"; weight = 100; backup = false; }"), "");
}

static void settings_of_servers_change_in_place(void **state)
{
	(void)state;
	differs(SERVERS(A ", " B),
	        SERVERS("{ name = \"a\"; address = \"10.0.0.1:1\"; weight = 50; soft_limit = 3; max_connections = 5; disabled = true; }, "
	                "{ name = \"b\"; address = \"10.0.0.2:1\"; weight = 1; }"),
	        "upstreams.app.servers.a.weight 100 -> 50 *\n"
	        "upstreams.app.servers.a.max_connections 0 -> 5 *\n"
	        "upstreams.app.servers.a.soft_limit 0 -> 3 *\n"
	        "upstreams.app.servers.a.disabled false -> true *\n"
	        "upstreams.app.servers.b.weight 100 -> 1 *\n");
	differs(SERVERS(A ", " B), SERVERS(A ", { name = \"b\"; address = \"10.0.0.2:2\"; backup = true; }"),
	        "upstreams.app.servers.b.address \"10.0.0.2:1\" -> \"10.0.0.2:2\"\n"
	        "upstreams.app.servers.b.backup false -> true *\n");
}

static void listeners_and_the_top(void **state)
{
	(void)state;
	differs(LISTENER UPSTREAM,
	        "workers = 3; log = { level = \"debug\"; }; listeners = ( { address = \"127.0.0.1:8080\"; max_connections = 7; "
	        "timeout = { idle = \"2s\"; }; } );\n" UPSTREAM,
	        "workers \"auto\" -> 3\n"
	        "log.level \"info\" -> \"debug\"\n"
	        "listeners.127.0.0.1:8080.max_connections 0 -> 7 *\n"
	        "listeners.127.0.0.1:8080.timeout.idle \"0s\" -> \"2s\"\n");
}

static void objects_come_and_go_by_name(void **state)
{
	(void)state;
	differs(SERVERS(A ", " B), SERVERS(A ", " C), "upstreams.app.servers.b removed\nupstreams.app.servers.c added\n");
	differs(SERVERS(A ", " B ", " C), SERVERS(B ", " C), "upstreams.app.servers.a removed\n");
	differs(SERVERS(A ", " B), SERVERS(B ", " A), "upstreams.app.servers reordered\n");
	differs(SERVERS(A ", " B), SERVERS(C ", " B ", { name = \"a\"; address = \"10.0.0.1:1\"; weight = 2; }"),
	        "upstreams.app.servers.c added\nupstreams.app.servers.a.weight 100 -> 2 *\nupstreams.app.servers reordered\n");
	differs(LISTENER UPSTREAM,
	        "listeners = ( { address = \"127.0.0.1:8081\"; } ); upstreams = ( { name = \"other\"; servers = ( " A " ); } );\n",
	        "listeners.127.0.0.1:8080 removed\nlisteners.127.0.0.1:8081 added\n"
	        "upstreams.app removed\nupstreams.other added\n");
}

static void a_group_that_goes_on_or_off_is_not_in_place(void **state)
{
	(void)state;
	differs(UPSTREAM_WITH("connect_rate = \"1/s\"; queue = { size = 5; };"),
	        UPSTREAM_WITH("connect_rate = \"1/s\"; queue = { size = 6; };"), "upstreams.app.queue.size 5 -> 6 *\n");
	differs(UPSTREAM_WITH("connect_rate = \"1/s\"; queue = { size = 5; };"), UPSTREAM_WITH("connect_rate = \"1/s\";"),
	        "upstreams.app.queue.size 5 -> 0\n");
	differs(UPSTREAM_WITH("connect_rate = \"1/s\";"), UPSTREAM_WITH("connect_rate = \"1/s\"; queue = { size = 5; timeout = \"1s\"; };"),
	        "upstreams.app.queue.size 0 -> 5\nupstreams.app.queue.timeout \"5s\" -> \"1s\"\n");
	/* What is in a group that is off has no effect. */
	differs(UPSTREAM_WITH("health = { type = \"none\"; interval = \"1s\"; };"), UPSTREAM_WITH(""), "");
}

static void lists_of_texts_differ_by_their_elements(void **state)
{
	(void)state;
	differs("listeners = ( { address = \"127.0.0.1:8080\"; allow = [ \"10.0.0.0/8\", \"::1\" ]; } );\n" UPSTREAM,
	        "listeners = ( { address = \"127.0.0.1:8080\"; allow = [ \"10.0.0.0/8\", \"::2\" ]; } );\n" UPSTREAM,
	        "listeners.127.0.0.1:8080.allow [ \"10.0.0.0/8\", \"::1\" ] -> [ \"10.0.0.0/8\", \"::2\" ]\n");
}

static void a_long_value_is_compared_in_full_and_shown_cut_off(void **state)
{
	(void)state;
	char long_text[1001], one[2048], other[2048];
	struct told told;

	memset(long_text, 'x', 1000);
	long_text[1000] = '\0';
	snprintf(one, sizeof one, UPSTREAM_WITH("health = { send = \"\"; expect = \"%s\"; };"), long_text);
	long_text[999] = 'y';
	snprintf(other, sizeof other, UPSTREAM_WITH("health = { send = \"\"; expect = \"%s\"; };"), long_text);
	diff(one, other, &told);
	assert_int_equal(told.count, 1);
	assert_string_equal(told.path, "upstreams.app.health.expect");
	assert_non_null(strstr(told.bytes, "xxx... -> \"xxx"));
	assert_true(told.text.length < 500);
}

/* A setting that changes alone is told, whichever it is, and as what its row says. */
static void every_row_is_compared(void **state)
{
	(void)state;
	struct config *old = load_text(LISTENER UPSTREAM), *new = load_text(LISTENER UPSTREAM);
	size_t compared = 0;

	old->upstreams[0].health.type = new->upstreams[0].health.type = HEALTH_TYPE_TCP;
	for (size_t i = 0; i < n_option_rows; i++) {
		const struct option *option = &option_rows[i];
		if (option->type != OPTION_NUMBER && option->type != OPTION_BOOL && option->type != OPTION_DURATION)
			continue;
		bool of_server = option->object == OBJECT_SERVER;
		bool of_listener = object_rows[option->object].parent == OBJECT_LISTENER || option->object == OBJECT_LISTENER;
		bool of_upstream = object_rows[option->object].parent == OBJECT_UPSTREAM || option->object == OBJECT_UPSTREAM;
		unsigned char *base = of_server     ? (void *)new->upstreams[0].servers
		                      : of_listener ? (void *)new->listeners
		                      : of_upstream ? (void *)new->upstreams
		                                    : (void *)new;
		struct told told = { .count = 0 };
		told.text = text_of(told.bytes, sizeof told.bytes);
		base[option->offset] ^= 1;
		config_diff(old, new, on_change, &told);
		base[option->offset] ^= 1;
		if (!object_is_on(option->object, base) && told.count == 0)
			continue; /* of a group that is off */
		if (!option_is_of_use(option, base))
			continue;
		assert_true(told.count > 0);
		assert_non_null(strstr(told.bytes, option->key));
		compared++;
	}
	assert_true(compared > 40);
	config_free(old);
	config_free(new);
}

/* --- secrets ---------------------------------------------------------------------------------------------------------------- */

#define SEND(text) UPSTREAM_WITH("health = { send = \"" text "\"; };")

static void secrets_are_compared_and_not_shown(void **state)
{
	(void)state;
	differs(SEND("AUTH one"), SEND("AUTH two"), "upstreams.app.health.send (hidden) -> (hidden)\n");
	differs(SEND(""), SEND("AUTH two"), "upstreams.app.health.send \"\" -> (hidden)\n");
	/* what was written down without it, as config_dump_bare() does */
	differs(SEND("(hidden)"), SEND("AUTH two"), "");
	differs(SEND("(hidden)"), SEND(""), "upstreams.app.health.send (hidden) -> \"\"\n");
	differs(SEND(""), SEND("(hidden)"), "upstreams.app.health.send \"\" -> (hidden)\n");
}

/* --- where ----------------------------------------------------------------------------------------------------------------- */

struct places {
	char bytes[2048];
	struct text text;
};

static void add_index(struct text *text, size_t index)
{
	if (index == CONFIG_NOWHERE)
		text_add(text, " -");
	else
		text_add(text, " %zu", index);
}

static void on_place(void *arg, const struct config_change *change)
{
	struct places *places = arg;

	text_add(&places->text, "%s:", change->path);
	add_index(&places->text, change->old.listener);
	add_index(&places->text, change->old.upstream);
	add_index(&places->text, change->old.server);
	text_add(&places->text, " |");
	add_index(&places->text, change->new.listener);
	add_index(&places->text, change->new.upstream);
	add_index(&places->text, change->new.server);
	text_add(&places->text, "\n");
}

static void it_says_where_it_is_in_either_tree(void **state)
{
	(void)state;
	struct places places = { .text.cut = false };
	struct config *old =
	        load_text("listeners = ( { name = \"x\"; address = \":1\"; upstream = \"one\"; }, { name = \"l\"; address = \":2\"; "
	                  "upstream = \"two\"; } );\n"
	                  "upstreams = ( { name = \"one\"; servers = ( { address = \"h:1\"; } ); },\n"
	                  "  { name = \"two\"; servers = ( " A ", " B " ); } );\n");
	struct config *new =
	        load_text("listeners = ( { name = \"l\"; address = \":2\"; upstream = \"two\"; backlog = 9; } ); workers = 5;\n"
	                  "upstreams = ( { name = \"two\"; retries = 1; servers = ( { name = \"c\"; address = \"10.0.0.3:1\"; },\n"
	                  "  { name = \"b\"; address = \"10.0.0.2:1\"; weight = 1; } ); } );\n");

	places.text = text_of(places.bytes, sizeof places.bytes);
	config_diff(old, new, on_place, &places);
	assert_string_equal(places.bytes, "workers: - - - | - - -\n"
	                                  "listeners.x: 0 - - | - - -\n"
	                                  "listeners.l.backlog: 1 - - | 0 - -\n"
	                                  "upstreams.one: - 0 - | - - -\n"
	                                  "upstreams.two.retries: - 1 - | - 0 -\n"
	                                  "upstreams.two.servers.a: - 1 0 | - 0 -\n"
	                                  "upstreams.two.servers.c: - 1 - | - 0 0\n"
	                                  "upstreams.two.servers.b.weight: - 1 1 | - 0 1\n");
	config_free(old);
	config_free(new);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_differs_from_itself),
		cmocka_unit_test(settings_of_servers_change_in_place),
		cmocka_unit_test(listeners_and_the_top),
		cmocka_unit_test(objects_come_and_go_by_name),
		cmocka_unit_test(a_group_that_goes_on_or_off_is_not_in_place),
		cmocka_unit_test(lists_of_texts_differ_by_their_elements),
		cmocka_unit_test(a_long_value_is_compared_in_full_and_shown_cut_off),
		cmocka_unit_test(every_row_is_compared),
		cmocka_unit_test(secrets_are_compared_and_not_shown),
		cmocka_unit_test(it_says_where_it_is_in_either_tree),
	};

	return cmocka_run_group_tests(tests, NULL, remove_directory);
}
