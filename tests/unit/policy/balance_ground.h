/* A balance over entries with loads of the test's own. Define MANY, how many entries there may be, and include after cmocka.h. */
#ifndef AEGIS_TESTS_BALANCE_GROUND_H
#define AEGIS_TESTS_BALANCE_GROUND_H

#include "policy/balance.h"

static struct balance balance;
static struct balance_entry entries[MANY];
static uint32_t loads[MANY], looks; /* how often a load was looked at */
static uint64_t random_state;

static uint32_t load_of(const void *arg, uint32_t entry)
{
	looks++;
	return ((const uint32_t *)arg)[entry];
}

static int set_up_test(void **state)
{
	(void)state;
	random_state = 1;
	balance = (struct balance){ 0 };
	return 0;
}

static int tear_down_test(void **state)
{
	(void)state;
	balance_fini(&balance);
	return 0;
}

static int choose(void)
{
	return balance_choose(&balance, 0, NULL, 0);
}

static int choose_after(uint16_t tried)
{
	return balance_choose(&balance, 0, &tried, 1);
}

#endif
