/*
 * The same decision by libmilter: what a milter in C costs that asks for just as little as ours.
 *
 * libmilter SOCKET LIST MIN-BITS RULE: clients whose confirmed name, or a parent of it, is in LIST need so many bits; who
 * has authenticated and who comes from this host is exempt, and so is postmaster. Only MAIL and RCPT are asked for, no
 * macros but those of MAIL, and a message that passes is accepted at MAIL. It logs nothing.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <libmilter/mfapi.h>

#define TLS_BITS(priv) ((int)((intptr_t)(priv) - 1))

static char *names;             /* all of the list, each name ended by a NUL */
static uint32_t *table;         /* places in it, behind by one; 0 is free */
static size_t mask;
static int min_bits;
static const char *rule;

static uint64_t
hash(const char *name)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (; *name != '\0'; name++)
		h = (h ^ (unsigned char)*name) * 0x100000001b3u;
	return h ^ (h >> 32);
}

static int
listed(const char *name)
{
	size_t at;

	for (at = hash(name) & mask; table[at] != 0; at = (at + 1) & mask)
		if (strcmp(names + table[at] - 1, name) == 0)
			return 1;
	return 0;
}

static int
load(const char *path)
{
	FILE *file = fopen(path, "r");
	size_t count = 0, length, size;
	char *name, *end;

	if (file == NULL || fseek(file, 0, SEEK_END) != 0)
		return -1;
	length = (size_t)ftell(file);
	rewind(file);
	names = malloc(length + 1);
	if (names == NULL || fread(names, 1, length, file) != length)
		return -1;
	fclose(file);
	names[length] = '\0';
	for (end = names; *end != '\0'; end++)
		count += *end == '\n';
	for (size = 16; size < 2 * (count + 1); size *= 2)
		continue;
	mask = size - 1;
	table = calloc(size, sizeof *table);
	if (table == NULL)
		return -1;
	for (name = names; (end = strchr(name, '\n')) != NULL; name = end + 1) {
		size_t at;

		*end = '\0';
		for (at = hash(name) & mask; table[at] != 0; at = (at + 1) & mask)
			continue;
		table[at] = (uint32_t)(name - names) + 1;
	}
	return 0;
}

static const char *
macro(SMFICTX *ctx, char *name)
{
	const char *value = smfi_getsymval(ctx, name);

	return value == NULL ? "" : value;
}

static sfsistat
negotiate(SMFICTX *ctx, unsigned long f0, unsigned long f1, unsigned long f2, unsigned long f3,
    unsigned long *pf0, unsigned long *pf1, unsigned long *pf2, unsigned long *pf3)
{
	static const int silent[] = { SMFIM_CONNECT, SMFIM_HELO, SMFIM_ENVRCPT, SMFIM_DATA, SMFIM_EOM, SMFIM_EOH };
	size_t i;

	(void)f2;
	(void)f3;
	if (f0 & SMFIF_SETSYMLIST) {
		smfi_setsymlist(ctx, SMFIM_ENVFROM,
		    "{client_addr} {client_name} {client_resolve} {cipher_bits} {auth_type} {auth_ssf}");
		/* It takes no empty list, but one of blanks. */
		for (i = 0; i < sizeof silent / sizeof silent[0]; i++)
			smfi_setsymlist(ctx, silent[i], " ");
	}
	*pf0 = 0;
	*pf1 = f1 & (SMFIP_NOCONNECT | SMFIP_NOHELO | SMFIP_NODATA | SMFIP_NOHDRS | SMFIP_NOEOH | SMFIP_NOBODY |
	    SMFIP_NOUNKNOWN);
	*pf2 = 0;
	*pf3 = 0;
	return SMFIS_CONTINUE;
}

static sfsistat
envfrom(SMFICTX *ctx, char **argv)
{
	const char *address = macro(ctx, "{client_addr}");
	int bits = atoi(macro(ctx, "{cipher_bits}")), ssf = atoi(macro(ctx, "{auth_ssf}"));
	char name[256];
	const char *part;
	size_t i;

	(void)argv;
	smfi_setpriv(ctx, NULL);
	if (ssf > bits)
		bits = ssf;
	if (bits >= min_bits || *macro(ctx, "{auth_type}") != '\0' || strncmp(address, "127.", 4) == 0)
		return SMFIS_ACCEPT;
	if (strcmp(macro(ctx, "{client_resolve}"), "OK") != 0)
		return SMFIS_ACCEPT;
	strncpy(name, macro(ctx, "{client_name}"), sizeof name - 1);
	name[sizeof name - 1] = '\0';
	for (i = 0; name[i] != '\0'; i++)
		if (name[i] >= 'A' && name[i] <= 'Z')
			name[i] += 'a' - 'A';
	for (part = name; part != NULL; part = strchr(part, '.')) {
		part += *part == '.';
		if (listed(part)) {
			smfi_setpriv(ctx, (void *)(intptr_t)(bits + 1));
			return SMFIS_CONTINUE;
		}
	}
	return SMFIS_ACCEPT;
}

static sfsistat
envrcpt(SMFICTX *ctx, char **argv)
{
	void *priv = smfi_getpriv(ctx);
	char text[256];

	if (priv == NULL || strncasecmp(argv[0], "<postmaster@", 12) == 0)
		return SMFIS_CONTINUE;
	if (TLS_BITS(priv) == 0) {
		snprintf(text, sizeof text, "encryption needed, STARTTLS with at least %d bits, rule %s", min_bits, rule);
		smfi_setreply(ctx, "550", "5.7.10", text);
	} else {
		snprintf(text, sizeof text, "encryption too weak %d less than %d, rule %s", TLS_BITS(priv), min_bits, rule);
		smfi_setreply(ctx, "554", "5.7.0", text);
	}
	return SMFIS_REJECT;
}

static sfsistat
abort_message(SMFICTX *ctx)
{
	smfi_setpriv(ctx, NULL);
	return SMFIS_CONTINUE;
}

int
main(int argc, char **argv)
{
	struct smfiDesc milter = {
		.xxfi_name = "reference",
		.xxfi_version = SMFI_VERSION,
		.xxfi_envfrom = envfrom,
		.xxfi_envrcpt = envrcpt,
		.xxfi_eom = abort_message,
		.xxfi_abort = abort_message,
		.xxfi_close = abort_message,
		.xxfi_negotiate = negotiate,
	};

	if (argc != 5 || load(argv[2]) != 0) {
		fprintf(stderr, "usage: libmilter SOCKET LIST MIN-BITS RULE\n");
		return 64;
	}
	min_bits = atoi(argv[3]);
	rule = argv[4];
	if (smfi_setconn(argv[1]) != MI_SUCCESS || smfi_register(milter) != MI_SUCCESS ||
	    smfi_setbacklog(4096) != MI_SUCCESS || smfi_opensocket(1) != MI_SUCCESS) {
		fprintf(stderr, "libmilter: cannot listen on %s\n", argv[1]);
		return 71;
	}
	return smfi_main() == MI_SUCCESS ? 0 : 70;
}
