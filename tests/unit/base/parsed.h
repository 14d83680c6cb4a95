/* An address block from a text that is known to be good. Include after cmocka.h. */
#ifndef AEGIS_TESTS_PARSED_H
#define AEGIS_TESTS_PARSED_H

#include "base/cidr.h"

static struct cidr parsed(const char *s)
{
	struct cidr cidr;
	char why[CIDR_WHY_SIZE] = "";

	if (cidr_parse(s, &cidr, why, sizeof why) != 0)
		fail_msg("%s", why);
	return cidr;
}

#endif
