/* Names of certificates as they are: two in each, one of ten a wildcard; clients ask for one of them, or one below it. */
#include <stdio.h>
#include <string.h>

#include "micro.h"
#include "tls/name_table.h"

enum { NAME_SIZE = 48 };

struct certificates_bench {
	struct heap heap;
	struct vault vault;
	struct vault_listener *listener;
	char (*asked)[NAME_SIZE];
	uint32_t *order;
	uint32_t n, next;
};

static void twice(void *arg, const char *name, size_t length, uint32_t first, uint32_t second)
{
	(void)arg;
	(void)name;
	(void)length;
	(void)first;
	(void)second;
	ensure(false);
}

static void add(struct certificates_bench *bench, struct own_names *names, const char *name, uint32_t number)
{
	names->names[names->n++] = (struct own_name){
		.name = heap_put(&bench->heap, name, strlen(name)), .certificate = number, .kind = number % 2 ? VAULT_RSA : VAULT_ECDSA
	};
}

void *certificates_begin(uint32_t n, uint32_t kind)
{
	struct certificates_bench *bench = micro_memory(1, sizeof *bench);
	struct own_names names = { .names = micro_memory(2 * (size_t)n, sizeof *names.names) };
	char name[NAME_SIZE];
	(void)kind;
	bench->asked = micro_memory(n, sizeof *bench->asked);
	uint64_t listener = heap_take(&bench->heap, sizeof(struct vault_header) + sizeof(struct vault_listener));
	for (uint32_t i = 0; i < n; i++) {
		bool wild = i % 10 == 9;
		(void)snprintf(name, sizeof name, "%scustomer%u.shop.example.org", wild ? "*." : "", i);
		(void)snprintf(bench->asked[i], NAME_SIZE, "%scustomer%u.shop.example.org", wild ? "www." : "", i);
		add(bench, &names, name, i + 1);
		(void)snprintf(name, sizeof name, "mail.customer%u.example.org", i);
		add(bench, &names, name, i + 1);
	}
	own_names_write(&names, &bench->heap, listener, twice, NULL);
	own_names_free(&names);
	bench->vault = (struct vault){ .header = heap_at(&bench->heap, 0), .size = bench->heap.length };
	bench->listener = heap_at(&bench->heap, listener);
	bench->order = micro_order(n);
	bench->n = n;
	return bench;
}

uint64_t certificates_run(void *state, uint64_t times)
{
	struct certificates_bench *bench = state;
	uint64_t sum = 0;

	for (uint64_t i = 0; i < times; i++) {
		const char *name = bench->asked[bench->order[bench->next]];
		bool known;
		bench->next = bench->next + 1 < bench->n ? bench->next + 1 : 0;
		const uint32_t *found = vault_find(&bench->vault, bench->listener, name, strlen(name), &known);
		ensure(known);
		sum += found[VAULT_RSA] + found[VAULT_ECDSA];
	}
	micro_sink = sum;
	return times;
}

void certificates_end(void *state)
{
	struct certificates_bench *bench = state;

	heap_free(&bench->heap);
	free(bench->asked);
	free(bench->order);
	free(bench);
}
