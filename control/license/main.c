/* SPDX-License-Identifier: BSD-3-Clause
 * millrace-license, the vendor's tool: make a key pair, issue a licence, look into one.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#include "base/clock.h"
#include "base/file_replace.h"
#include "control/license_file.h"

enum { EXIT_OK = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2 };

static const char usage_text[] =
	"millrace-license: keys and licences of the appliance's vendor\n\n"
	"  millrace-license keygen --out DIR\n"
	"      write license-private.pem (0600: keep it off the appliance) and license-public.pem\n\n"
	"  millrace-license issue --key PRIVATE.pem --customer NAME --out FILE\n"
	"      --subscribers N --models N     how many the box may serve\n"
	"      [--rate UNITS]                 sum of all subscribers' rates a second (0 = unlimited)\n"
	"      [--days N]                     valid from now for N days (365)\n"
	"      [--not-before T --not-after T] or exactly: 2026-11-23T00:00:00Z\n"
	"      [--edition TEXT] [--id TEXT]\n\n"
	"  millrace-license inspect FILE [--key PUBLIC.pem] [--json]\n"
	"      print what it grants; with --key also verify the signature\n\n"
	"exit status: 0 ok, 1 refused, 2 usage\n";

static int usage(FILE *to)
{
	fputs(usage_text, to);
	return to == stdout ? EXIT_OK : EXIT_USAGE;
}

static int refused(const struct error *err)
{
	fprintf(stderr, "millrace-license: %s\n", err->text);
	return EXIT_REFUSED;
}

static int wrong(const char *what, const char *value)
{
	fprintf(stderr, "millrace-license: %s%s%s (see --help)\n", what, value ? ": " : "",
		value ? value : "");
	return EXIT_USAGE;
}

/* -- keygen ---------------------------------------------------------------------------------- */

/* A new file only: a vendor's key must never be overwritten by accident. */
static int write_new(const char *path, mode_t mode, BIO *pem, struct error *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	char *data;
	long n = BIO_get_mem_data(pem, &data);
	bool ok;

	if (fd < 0)
		return error_set(err, -errno, "%s: %s", path, strerror(errno));
	ok = write(fd, data, (size_t)n) == n && fsync(fd) == 0;
	close(fd);
	if (ok)
		return 0;
	unlink(path);
	return error_set(err, -EIO, "%s: could not be written", path);
}

static int write_pair(EVP_PKEY *key, const char *dir, struct error *err)
{
	char private_path[4096], public_path[4096];
	BIO *priv = BIO_new(BIO_s_secmem()), *pub = BIO_new(BIO_s_mem());
	int rc = 0;

	snprintf(private_path, sizeof(private_path), "%s/license-private.pem", dir);
	snprintf(public_path, sizeof(public_path), "%s/license-public.pem", dir);
	if (!priv || !pub || !PEM_write_bio_PrivateKey(priv, key, NULL, NULL, 0, NULL, NULL) ||
		!PEM_write_bio_PUBKEY(pub, key))
		rc = error_set(err, -EIO, "the key could not be written as PEM");
	if (rc == 0)
		rc = write_new(private_path, 0600, priv, err);
	if (rc == 0 && (rc = write_new(public_path, 0644, pub, err)))
		unlink(private_path);
	BIO_free(priv);
	BIO_free(pub);
	if (rc == 0)
		printf("private key  %s\npublic key   %s\n", private_path, public_path);
	return rc;
}

static int keygen(int argc, char **argv)
{
	static const struct option options[] = {{"out", required_argument, NULL, 'o'}, {0}};
	struct license_key pub;
	struct error err = {0};
	const char *dir = NULL;
	uint8_t raw[LICENSE_KEY_BYTES];
	size_t n = sizeof(raw);
	EVP_PKEY *key;
	int c, rc;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c != 'o')
			return EXIT_USAGE;
		dir = optarg;
	}
	if (!dir || optind != argc)
		return wrong("keygen needs --out DIR and nothing else", NULL);
	if (mkdir(dir, 0700) && errno != EEXIST)
		return wrong(dir, strerror(errno));
	key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	if (!key || EVP_PKEY_get_raw_public_key(key, raw, &n) != 1)
		rc = error_set(&err, -EIO, "no key could be made");
	else
		rc = write_pair(key, dir, &err);
	EVP_PKEY_free(key);
	if (rc)
		return refused(&err);
	license_key_set(&pub, raw);
	printf("fingerprint  %s\n", pub.fingerprint);
	return EXIT_OK;
}

/* -- issue ----------------------------------------------------------------------------------- */

struct issue {
	struct license_doc doc;
	const char *key, *out;
	int64_t days;
	bool has_before, has_after, has_days;
};

static int take_text(char *to, size_t cap, const char *name)
{
	if (strlen(optarg) >= cap || !*optarg)
		return wrong(name, "empty or too long");
	snprintf(to, cap, "%s", optarg);
	return 0;
}

static int take_number(double *to, double min, double max, const char *name)
{
	char *end;
	double v = strtod(optarg, &end);

	if (*end || end == optarg || !(v >= min && v <= max)) {
		fprintf(stderr, "millrace-license: %s: want a number from %g to %g, not '%s'\n", name, min,
			max, optarg);
		return EXIT_USAGE;
	}
	*to = v;
	return 0;
}

static int take_time(int64_t *to, bool *has, const char *name)
{
	if (license_time_parse(optarg, to))
		return wrong(name, "want a time like 2026-11-23T00:00:00Z");
	*has = true;
	return 0;
}

static int issue_option(struct issue *is, int c)
{
	double v = 0;
	int rc = 0;

	switch (c) {
	case 'k':
		is->key = optarg;
		return 0;
	case 'o':
		is->out = optarg;
		return 0;
	case 'c':
		return take_text(is->doc.customer, sizeof(is->doc.customer), "--customer");
	case 'e':
		return take_text(is->doc.edition, sizeof(is->doc.edition), "--edition");
	case 'i':
		return take_text(is->doc.id, sizeof(is->doc.id), "--id");
	case 's':
		rc = take_number(&v, 1, LICENSE_MAX_SUBSCRIBERS, "--subscribers");
		is->doc.subscribers = (uint32_t)v;
		return rc;
	case 'm':
		rc = take_number(&v, 1, LICENSE_MAX_MODELS, "--models");
		is->doc.models = (uint32_t)v;
		return rc;
	case 'r':
		return take_number(&is->doc.total_rate, 0, 1e12, "--rate");
	case 'd':
		rc = take_number(&v, 1.0 / 86400, 36500, "--days");
		is->days = (int64_t)(v * 86400);
		is->has_days = true;
		return rc;
	case 'b':
		return take_time(&is->doc.not_before_wall_s, &is->has_before, "--not-before");
	case 'a':
		return take_time(&is->doc.not_after_wall_s, &is->has_after, "--not-after");
	default:
		return EXIT_USAGE;
	}
}

static int issue_complete(struct issue *is)
{
	uint8_t r[8];

	if (!is->key || !is->out || !*is->doc.customer || !is->doc.subscribers || !is->doc.models)
		return wrong("issue needs --key, --customer, --subscribers, --models and --out", NULL);
	if (is->has_days && is->has_after)
		return wrong("give --days or --not-after, not both", NULL);
	if (!is->has_before)
		is->doc.not_before_wall_s = clock_wall_s() - 60; /* clocks differ a little */
	if (!is->has_after)
		is->doc.not_after_wall_s =
			(is->has_before ? is->doc.not_before_wall_s : clock_wall_s()) + is->days;
	if (!*is->doc.id) {
		if (RAND_bytes(r, sizeof(r)) != 1)
			return wrong("no random number", NULL);
		for (size_t i = 0; i < sizeof(r); i++)
			snprintf(is->doc.id + 2 * i, 3, "%02x", r[i]);
	}
	return 0;
}

static int issue(int argc, char **argv)
{
	static const struct option options[] = {{"key", required_argument, NULL, 'k'},
		{"out", required_argument, NULL, 'o'}, {"customer", required_argument, NULL, 'c'},
		{"edition", required_argument, NULL, 'e'}, {"id", required_argument, NULL, 'i'},
		{"subscribers", required_argument, NULL, 's'}, {"models", required_argument, NULL, 'm'},
		{"rate", required_argument, NULL, 'r'}, {"days", required_argument, NULL, 'd'},
		{"not-before", required_argument, NULL, 'b'}, {"not-after", required_argument, NULL, 'a'},
		{0}};
	struct issue is = {.doc.edition = "standard", .days = 365 * 86400};
	char until[24], *text = NULL;
	struct error err = {0};
	int c, rc;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1)
		if ((rc = issue_option(&is, c)))
			return rc;
	if (optind != argc)
		return wrong("issue takes options only, not", argv[optind]);
	if ((rc = issue_complete(&is)))
		return rc;
	rc = license_file_issue(&text, &is.doc, is.key, &err);
	if (rc == 0)
		rc = file_replace(is.out, text, strlen(text), 0644, &err);
	free(text);
	if (rc)
		return refused(&err);
	license_time_format(is.doc.not_after_wall_s, until);
	printf("%s: licence %s for %s, until %s\n", is.out, is.doc.id, is.doc.customer, until);
	return EXIT_OK;
}

/* -- inspect --------------------------------------------------------------------------------- */

static const char *validity(const struct license_doc *d)
{
	int64_t now = clock_wall_s();

	if (now < d->not_before_wall_s)
		return "not yet valid";
	return now < d->not_after_wall_s ? "valid today" : "expired";
}

static void print_doc(const struct license_doc *d, const char *fingerprint, bool verified, bool json)
{
	char from[24], until[24];

	license_time_format(d->not_before_wall_s, from);
	license_time_format(d->not_after_wall_s, until);
	if (json) {
		json_t *o = json_pack("{s:s,s:s,s:s,s:s,s:s,s:I,s:I,s:f,s:s,s:b,s:s}", "id", d->id,
			"customer", d->customer, "edition", d->edition, "not_before", from, "not_after", until,
			"subscribers", (json_int_t)d->subscribers, "models", (json_int_t)d->models, "total_rate",
			d->total_rate, "key", fingerprint, "signature_verified", verified, "validity",
			validity(d));
		json_dumpf(o, stdout, JSON_COMPACT);
		putchar('\n');
		json_decref(o);
		return;
	}
	printf("licence      %s (%s)\ncustomer     %s\nvalid        %s to %s: %s\n", d->id, d->edition,
		d->customer, from, until, validity(d));
	printf("subscribers  %u\nmodels       %u\n", d->subscribers, d->models);
	if (d->total_rate > 0)
		printf("total rate   %.0f units/s\n", d->total_rate);
	else
		printf("total rate   unlimited\n");
	printf("signed by    %s\nsignature    %s\n", fingerprint,
		verified ? "matches" : "not checked (give --key PUBLIC.pem)");
}

static int inspect(int argc, char **argv)
{
	static const struct option options[] = {{"key", required_argument, NULL, 'k'},
		{"json", no_argument, NULL, 'j'}, {0}};
	const char *key_path = NULL;
	struct license_key key;
	struct license_doc doc;
	struct error err = {0};
	char fingerprint[65] = "", *text = NULL;
	bool json = false;
	size_t n;
	int c, rc;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == '?')
			return EXIT_USAGE;
		if (c == 'k')
			key_path = optarg;
		else
			json = true;
	}
	if (optind + 1 != argc)
		return wrong("inspect needs exactly one FILE", NULL);
	rc = file_read(argv[optind], LICENSE_FILE_MAX_BYTES, &text, &n, &err);
	if (rc == 0)
		rc = license_file_claims(&doc, fingerprint, text, n, &err);
	if (rc == 0 && key_path)
		rc = license_key_read(&key, key_path, &err);
	if (rc == 0 && key_path)
		rc = license_file_verify(&doc, text, n, &key, 1, NULL, &err);
	free(text);
	if (rc)
		return refused(&err);
	print_doc(&doc, fingerprint, key_path != NULL, json);
	return EXIT_OK;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return usage(stderr);
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help"))
		return usage(stdout);
	if (!strcmp(argv[1], "keygen"))
		return keygen(argc - 1, argv + 1);
	if (!strcmp(argv[1], "issue"))
		return issue(argc - 1, argv + 1);
	if (!strcmp(argv[1], "inspect"))
		return inspect(argc - 1, argv + 1);
	return wrong("unknown command", argv[1]);
}
