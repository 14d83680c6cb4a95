/* What of a vault is for who checks servers: no key of a listener is in it. */
#include <errno.h>
#include <unistd.h>

#include "tls/build.h"
#include "tls/heap.h"
#include "tls/vault_magic.h"

int heap_seal(const struct heap *heap, int fd)
{
	size_t done = 0;

	while (done < heap->length) {
		ssize_t n = write(fd, heap->bytes + done, heap->length - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		done += (size_t)n;
	}
	return fcntl(fd, F_ADD_SEALS, VAULT_SEALS) < 0 ? -errno : 0;
}

bool vault_has_excerpt(const struct config *config)
{
	for (size_t i = 0; i < config->n_upstreams; i++)
		if (config->upstreams[i].health.tls)
			return true;
	return false;
}

static struct vault_span copy(struct heap *heap, const struct vault *from, const struct vault_span *span)
{
	return heap_put(heap, vault_bytes(from, span), span->length);
}

/* What Aegis shows to the servers. */
static struct vault_span copy_own(struct heap *heap, const struct vault *from, const struct vault_span *span)
{
	if (span->length == 0)
		return (struct vault_span){ 0 };
	struct vault_certificate own = vault_certificates(from, span)[0];
	own.leaf = copy(heap, from, &own.leaf);
	own.chain = copy(heap, from, &own.chain);
	own.key = copy(heap, from, &own.key);
	own.ocsp = (struct vault_span){ 0 };
	own.label = copy(heap, from, &own.label);
	struct vault_span out = heap_put(heap, &own, sizeof own);
	out.length = 1;
	return out;
}

static void copy_upstream(struct heap *heap, uint64_t at, const struct vault *from, const struct vault_upstream *upstream)
{
	const struct vault_upstream made = { .ca = copy(heap, from, &upstream->ca),
		.crls = copy(heap, from, &upstream->crls),
		.own = copy_own(heap, from, &upstream->own) };

	*(struct vault_upstream *)heap_at(heap, at) = made;
}

static void copy_all(const struct config *config, const struct vault *from, struct heap *heap)
{
	uint64_t header = heap_take(heap, sizeof(struct vault_header));
	uint64_t listeners = heap_take(heap, config->n_listeners * sizeof(struct vault_listener));
	uint64_t upstreams = heap_take(heap, config->n_upstreams * sizeof(struct vault_upstream));

	for (uint32_t i = 0; i < config->n_upstreams; i++)
		if (config->upstreams[i].health.tls)
			copy_upstream(heap, upstreams + i * sizeof(struct vault_upstream), from, vault_upstream(from, i));
	struct vault_header *head = heap_at(heap, header);
	*head = (struct vault_header){ .magic = VAULT_MAGIC,
		.size = heap->length,
		.listeners = { .offset = listeners, .length = config->n_listeners },
		.upstreams = { .offset = upstreams, .length = config->n_upstreams } };
	memcpy(head->digest, from->header->digest, sizeof head->digest);
}

int vault_excerpt(const struct config *config, int vault_fd, int fd)
{
	struct vault vault;
	struct heap heap = { 0 };
	int error = vault_map(vault_fd, config->n_listeners, config->n_upstreams, &vault);

	if (error)
		return error;
	copy_all(config, &vault, &heap);
	error = heap_seal(&heap, fd);
	heap_free(&heap);
	vault_unmap(&vault);
	return error;
}
