#include "tls/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_BYTES = 16 * 1024 * 1024 };

/* --- which --------------------------------------------------------------------------------------------------------------- */

static void add(struct tls_files *files, enum file_role role, size_t owner, size_t item, const char *path)
{
	if (path[0] != '\0')
		files->files[files->n++] =
		        (struct tls_file){ .role = role, .owner = (uint32_t)owner, .item = (uint32_t)item, .path = path };
}

static bool is_on(const struct listener_config *listener)
{
	return listener->tls.enabled && listener->protocol == PROTOCOL_TCP;
}

static size_t most_files(const struct config *config)
{
	size_t n = 4 * config->n_upstreams;

	for (size_t i = 0; i < config->n_listeners; i++)
		n += 2 + 3 * config->listeners[i].tls.n_certificates;
	return n;
}

int tls_files_list(const struct config *config, struct tls_files *out)
{
	struct tls_files files = { .files = calloc(most_files(config) + 1, sizeof *files.files) };

	if (!files.files)
		return -ENOMEM;
	for (size_t i = 0; i < config->n_listeners; i++) {
		const struct listener_tls_config *tls = &config->listeners[i].tls;
		if (!is_on(&config->listeners[i]))
			continue;
		for (size_t j = 0; j < tls->n_certificates; j++) {
			add(&files, FILE_CERT, i, j, tls->certificates[j].cert);
			add(&files, FILE_KEY, i, j, tls->certificates[j].key);
			add(&files, FILE_OCSP, i, j, tls->certificates[j].ocsp);
		}
		add(&files, FILE_CLIENT_CA, i, 0, tls->client_ca);
		add(&files, FILE_LISTENER_CRL, i, 0, tls->crl);
	}
	for (size_t i = 0; i < config->n_upstreams; i++) {
		const struct upstream_tls_config *tls = &config->upstreams[i].tls;
		if (!upstream_has_tls(&config->upstreams[i]))
			continue;
		add(&files, FILE_CA, i, 0, tls->ca);
		add(&files, FILE_UPSTREAM_CRL, i, 0, tls->crl);
		add(&files, FILE_OWN_CERT, i, 0, tls->cert);
		add(&files, FILE_OWN_KEY, i, 0, tls->key);
	}
	*out = files;
	return 0;
}

/* --- reading --------------------------------------------------------------------------------------------------------------- */

/* A whole file, or an errno. */
static int read_open(int fd, struct tls_file *file)
{
	struct stat st;
	size_t done = 0;

	if (fstat(fd, &st) < 0)
		return errno;
	if (!S_ISREG(st.st_mode))
		return EISDIR;
	if (st.st_size > MOST_BYTES)
		return EFBIG;
	if (st.st_size == 0)
		return ENODATA;
	unsigned char *bytes = malloc((size_t)st.st_size);
	if (!bytes)
		return ENOMEM;
	while (done < (size_t)st.st_size) {
		ssize_t n = read(fd, bytes + done, (size_t)st.st_size - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break; /* it became shorter: what is there is looked at */
		done += (size_t)n;
	}
	file->bytes = bytes;
	file->length = done;
	file->mode = st.st_mode & 07777;
	file->owned = st.st_uid;
	return done > 0 ? 0 : ENODATA;
}

void tls_file_read(struct tls_file *file)
{
	/* O_NONBLOCK: a FIFO under this name shall not hold us up. */
	int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	file->error = fd < 0 ? errno : read_open(fd, file);
	if (fd >= 0)
		close(fd);
	if (file->error != 0) {
		free(file->bytes);
		file->bytes = NULL;
		file->length = 0;
	}
}

int tls_files_read(const struct config *config, struct tls_files *out)
{
	int error = tls_files_list(config, out);

	for (size_t i = 0; !error && i < out->n; i++)
		tls_file_read(&out->files[i]);
	return error;
}

void tls_files_free(struct tls_files *files)
{
	for (size_t i = 0; i < files->n; i++) {
		if (files->files[i].bytes)
			explicit_bzero(files->files[i].bytes, files->files[i].length);
		free(files->files[i].bytes);
	}
	free(files->files);
	*files = (struct tls_files){ 0 };
}

/* --- where ----------------------------------------------------------------------------------------------------------------- */

const char *tls_file_setting(const struct tls_file *file, char *out, size_t size)
{
	static const char *const keys[N_FILE_ROLES] = {
		[FILE_CERT] = "cert",
		[FILE_KEY] = "key",
		[FILE_OCSP] = "ocsp",
		[FILE_CLIENT_CA] = "client_ca",
		[FILE_LISTENER_CRL] = "crl",
		[FILE_CA] = "ca",
		[FILE_UPSTREAM_CRL] = "crl",
		[FILE_OWN_CERT] = "cert",
		[FILE_OWN_KEY] = "key",
	};

	if (file->role <= FILE_OCSP)
		(void)snprintf(out, size, "listeners[%u].tls.certificates[%u].%s", file->owner, file->item, keys[file->role]);
	else
		(void)snprintf(out, size, "%s[%u].tls.%s", file->role < FILE_CA ? "listeners" : "upstreams", file->owner, keys[file->role]);
	return out;
}

const char *tls_file_place(const struct config *config, const struct tls_file *file, int *line)
{
	if (file->role >= FILE_CA) {
		*line = config->upstreams[file->owner].tls.line;
		return config->upstreams[file->owner].tls.file;
	}
	const struct listener_tls_config *tls = &config->listeners[file->owner].tls;
	*line = file->role <= FILE_OCSP ? tls->certificates[file->item].line : tls->line;
	return file->role <= FILE_OCSP ? tls->certificates[file->item].file : tls->file;
}
