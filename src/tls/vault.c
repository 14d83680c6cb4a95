#include "tls/vault.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/hash.h"
#include "tls/vault_magic.h"

/* --- finding --------------------------------------------------------------------------------------------------------------- */

size_t vault_place(const struct vault_name *names, uint64_t count, const void *base, const char *name, size_t length, uint64_t *hash)
{
	*hash = hash_xxh64(name, length, 0);
	for (uint64_t at = *hash & (count - 1);; at = (at + 1) & (count - 1)) {
		const struct vault_name *place = &names[at];
		if (place->name.length == 0)
			return at;
		if (place->hash == *hash && place->name.length == length &&
		        memcmp((const char *)base + place->name.offset, name, length) == 0)
			return at;
	}
}

static const struct vault_name *find(const struct vault *vault, const struct vault_listener *listener, const char *name, size_t length)
{
	const struct vault_name *names = (const struct vault_name *)(const void *)vault_bytes(vault, &listener->names);
	uint64_t hash;
	size_t at = vault_place(names, listener->names.length, vault->header, name, length, &hash);

	return names[at].name.length > 0 ? &names[at] : NULL;
}

const uint32_t *vault_find(const struct vault *vault, const struct vault_listener *listener, const char *name, size_t length, bool *known)
{
	char lower[VAULT_NAME_SIZE];
	const struct vault_name *found = NULL;

	*known = false;
	if (length > 0 && name[length - 1] == '.')
		length--;
	if (length == 0 || length >= sizeof lower || listener->names.length == 0)
		return listener->fallback;
	for (size_t i = 0; i < length; i++)
		lower[i] = name[i] >= 'A' && name[i] <= 'Z' ? (char)(name[i] | 0x20) : name[i];
	if (lower[0] != '*')
		found = find(vault, listener, lower, length);
	const char *dot = found ? NULL : memchr(lower, '.', length);
	if (dot && dot > lower) {
		char *wild = lower + (dot - lower) - 1; /* "www.example.org" to "*.example.org" */
		*wild = '*';
		found = find(vault, listener, wild, length - (size_t)(wild - lower));
	}
	*known = found != NULL;
	return found ? found->certificate : listener->fallback;
}

/* --- mapping --------------------------------------------------------------------------------------------------------------- */

static bool is_inside(const struct vault *vault, const struct vault_span *span, size_t element)
{
	return span->offset <= vault->size && span->offset % (element == 1 ? 1 : 8) == 0 &&
	       span->length <= (vault->size - span->offset) / element;
}

static bool are_good_certificates(const struct vault *vault, const struct vault_span *span)
{
	if (!is_inside(vault, span, sizeof(struct vault_certificate)))
		return false;
	const struct vault_certificate *certificates = vault_certificates(vault, span);
	for (uint64_t i = 0; i < span->length; i++) {
		const struct vault_certificate *one = &certificates[i];
		if (!is_inside(vault, &one->leaf, 1) || !is_inside(vault, &one->chain, 1) || !is_inside(vault, &one->key, 1) ||
		        !is_inside(vault, &one->ocsp, 1) || !is_inside(vault, &one->label, 1) || one->kind >= N_VAULT_KINDS)
			return false;
	}
	return true;
}

static bool are_good_numbers(const uint32_t numbers[N_VAULT_KINDS], uint64_t count)
{
	for (size_t i = 0; i < N_VAULT_KINDS; i++)
		if (numbers[i] > count)
			return false;
	return true;
}

static bool are_good_names(const struct vault *vault, const struct vault_listener *listener)
{
	uint64_t count = listener->names.length, empty = 0;

	if (!is_inside(vault, &listener->names, sizeof(struct vault_name)) || (count & (count - 1)) != 0)
		return false;
	const struct vault_name *names = (const struct vault_name *)(const void *)vault_bytes(vault, &listener->names);
	for (uint64_t i = 0; i < count; i++) {
		if (!is_inside(vault, &names[i].name, 1) || !are_good_numbers(names[i].certificate, listener->certificates.length))
			return false;
		empty += names[i].name.length == 0;
	}
	return count == 0 || empty > 0; /* a search ends */
}

static bool is_good(const struct vault *vault, size_t n_listeners, size_t n_upstreams)
{
	const struct vault_header *header = vault->header;

	if (header->magic != VAULT_MAGIC || header->size != vault->size || header->listeners.length != n_listeners ||
	        header->upstreams.length != n_upstreams || !is_inside(vault, &header->listeners, sizeof(struct vault_listener)) ||
	        !is_inside(vault, &header->upstreams, sizeof(struct vault_upstream)))
		return false;
	for (uint32_t i = 0; i < n_listeners; i++) {
		const struct vault_listener *listener = vault_listener(vault, i);
		if (!are_good_certificates(vault, &listener->certificates) || !are_good_names(vault, listener) ||
		        !is_inside(vault, &listener->client_ca, 1) || !is_inside(vault, &listener->crls, 1) ||
		        !are_good_numbers(listener->fallback, listener->certificates.length))
			return false;
	}
	for (uint32_t i = 0; i < n_upstreams; i++) {
		const struct vault_upstream *upstream = vault_upstream(vault, i);
		if (!is_inside(vault, &upstream->ca, 1) || !is_inside(vault, &upstream->crls, 1) ||
		        !are_good_certificates(vault, &upstream->own))
			return false;
	}
	return true;
}

int vault_map(int fd, size_t n_listeners, size_t n_upstreams, struct vault *out)
{
	struct stat st;
	struct vault vault;
	void *base;

	/* What may still shrink would be a SIGBUS one day. */
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (seals & VAULT_SEALS) != VAULT_SEALS)
		return -EINVAL;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size < (off_t)sizeof(struct vault_header))
		return -EINVAL;
	vault.size = (size_t)st.st_size;
	base = mmap(NULL, vault.size, PROT_READ, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return -errno;
	(void)madvise(base, vault.size, MADV_DONTDUMP);
	vault.header = base;
	if (!is_good(&vault, n_listeners, n_upstreams)) {
		vault_unmap(&vault);
		return -EINVAL;
	}
	*out = vault;
	return 0;
}

void vault_unmap(struct vault *vault)
{
	if (vault->header)
		(void)munmap((void *)(uintptr_t)vault->header, vault->size);
	*vault = (struct vault){ 0 };
}

const struct vault_listener *vault_listener(const struct vault *vault, uint32_t listener)
{
	return (const struct vault_listener *)(const void *)vault_bytes(vault, &vault->header->listeners) + listener;
}

const struct vault_upstream *vault_upstream(const struct vault *vault, uint32_t upstream)
{
	return (const struct vault_upstream *)(const void *)vault_bytes(vault, &vault->header->upstreams) + upstream;
}

const struct vault_certificate *vault_certificates(const struct vault *vault, const struct vault_span *span)
{
	return (const struct vault_certificate *)(const void *)vault_bytes(vault, span);
}
