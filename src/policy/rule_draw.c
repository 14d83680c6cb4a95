#include <errno.h>
#include <string.h>

#include "base/hash.h"
#include "policy/rules.h"

int rule_init_draws(struct balance *balance)
{
	int error = draw_init(&balance->draws[0], balance->n);
	return error ? error : draw_init(&balance->draws[1], balance->n);
}

void rule_fini_draws(struct balance *balance)
{
	draw_fini(&balance->draws[0]);
	draw_fini(&balance->draws[1]);
}

void rule_begin_draws(struct balance *balance)
{
	for (int backups = 0; backups < 2; backups++) {
		uint32_t first = backups ? balance->n_primaries : 0, end = backups ? balance->n_members : balance->n_primaries;
		draw_begin(&balance->draws[backups]);
		for (uint32_t i = first; i < end; i++)
			draw_add(&balance->draws[backups], balance->members[i].weight);
		draw_end(&balance->draws[backups]);
	}
}

/* Keep them ascending, each once. */
static uint32_t put_in(uint32_t *list, uint32_t n, uint32_t value)
{
	uint32_t place = n;
	while (place > 0 && list[place - 1] > value)
		place--;
	if (place > 0 && list[place - 1] == value)
		return n;
	for (uint32_t i = n; i > place; i--)
		list[i] = list[i - 1];
	list[place] = value;
	return n + 1;
}

uint32_t rule_draw(const struct balance *balance, bool backups, uint64_t random, const uint16_t *tried, uint32_t n_tried, uint32_t also)
{
	uint32_t first = backups ? balance->n_primaries : 0, without[BALANCE_MAX_TRIED + 1], n = 0;
	for (uint32_t i = 0; i < n_tried; i++) {
		uint32_t member = balance->member_of[tried[i]];
		if (member != NOT_USABLE && balance->members[member].backup == backups)
			n = put_in(without, n, member - first);
	}
	if (also != NOT_USABLE)
		n = put_in(without, n, also - first);
	uint32_t drawn = draw_pick(&balance->draws[backups], random, without, n);
	return drawn == DRAW_NOBODY ? NOT_USABLE : first + drawn;
}

/* --- random -------------------------------------------------------------------------------------------------------------- */

static int choose_random(struct balance *balance, uint64_t key, const uint16_t *tried, uint32_t n_tried)
{
	(void)key;
	uint64_t random = hash_next(&balance->random);
	uint32_t drawn = rule_draw(balance, false, random, tried, n_tried, NOT_USABLE);
	if (drawn == NOT_USABLE)
		drawn = rule_draw(balance, true, random, tried, n_tried, NOT_USABLE);
	return drawn == NOT_USABLE ? -1 : (int)balance->members[drawn].entry;
}

const struct balance_rule rule_random = {
	.init = rule_init_draws, .fini = rule_fini_draws, .begin = rule_begin_draws, .choose = choose_random
};

/* --- power of two choices ------------------------------------------------------------------------------------------------ */

/* No more turns than that are made up for, whether they were missed or had too many. */
enum { TURNS_KEPT = 4 };

static uint64_t *due(const struct balance *balance, uint32_t member)
{
	return &balance->due[balance->members[member].entry];
}

/* By its weight, its turn comes again after that many choices. */
static void has_a_turn(struct balance *balance, bool backups, uint32_t member)
{
	uint64_t pause = draw_total(&balance->draws[backups]) / balance->members[member].weight, kept = TURNS_KEPT * pause;
	uint64_t now = ++balance->choices, was = *due(balance, member);
	if (was + kept < now)
		was = now - kept;
	if (was > now + kept)
		was = now + kept;
	*due(balance, member) = was + pause;
}

/* By (load + 1) / weight, exactly; of equals the one whose turn is due first. */
static uint32_t better_of(const struct balance *balance, uint32_t one, uint32_t other)
{
	uint64_t one_rank = ((uint64_t)rule_load_of(balance, one) + 1) * balance->members[other].weight;
	uint64_t other_rank = ((uint64_t)rule_load_of(balance, other) + 1) * balance->members[one].weight;
	if (one_rank != other_rank)
		return one_rank < other_rank ? one : other;
	return *due(balance, one) <= *due(balance, other) ? one : other;
}

static int choose_p2c_in(struct balance *balance, bool backups, const uint16_t *tried, uint32_t n_tried)
{
	uint32_t one = rule_draw(balance, backups, hash_next(&balance->random), tried, n_tried, NOT_USABLE);
	if (one == NOT_USABLE)
		return -1;
	uint32_t other = rule_draw(balance, backups, hash_next(&balance->random), tried, n_tried, one);
	if (other != NOT_USABLE)
		one = better_of(balance, one, other);
	has_a_turn(balance, backups, one);
	return (int)balance->members[one].entry;
}

static int choose_p2c(struct balance *balance, uint64_t key, const uint16_t *tried, uint32_t n_tried)
{
	(void)key;
	int chosen = choose_p2c_in(balance, false, tried, n_tried);
	return chosen < 0 ? choose_p2c_in(balance, true, tried, n_tried) : chosen;
}

static void begin_p2c(struct balance *balance)
{
	rule_begin_draws(balance);
	/* what was due by other weights is of no use */
	memset(balance->due, 0, balance->n * sizeof *balance->due);
	balance->choices = 0;
}

static int init_p2c(struct balance *balance)
{
	balance->due = calloc((size_t)balance->n + 1, sizeof *balance->due);
	return balance->due ? rule_init_draws(balance) : -ENOMEM;
}

static void fini_p2c(struct balance *balance)
{
	rule_fini_draws(balance);
	free(balance->due);
}

const struct balance_rule rule_p2c = { .init = init_p2c, .fini = fini_p2c, .begin = begin_p2c, .choose = choose_p2c };
