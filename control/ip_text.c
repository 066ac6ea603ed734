/* SPDX-License-Identifier: BSD-3-Clause
 * Address texts: see ip_text.h.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/ip_text.h"

static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

int ip_parse(struct ip_addr *out, const char *text)
{
	struct ip_addr ip;

	memcpy(ip.bytes, mapped, sizeof(mapped));
	if (inet_pton(AF_INET, text, ip.bytes + 12) != 1 && inet_pton(AF_INET6, text, ip.bytes) != 1)
		return -EINVAL;
	*out = ip;
	return 0;
}

void ip_format(const struct ip_addr *ip, char out[IP_TEXT_BYTES])
{
	const char *s;

	if (memcmp(ip->bytes, mapped, sizeof(mapped)) == 0)
		s = inet_ntop(AF_INET, ip->bytes + 12, out, IP_TEXT_BYTES);
	else
		s = inet_ntop(AF_INET6, ip->bytes, out, IP_TEXT_BYTES);
	if (!s)
		snprintf(out, IP_TEXT_BYTES, "?");
}

int ip_from_sockaddr(struct ip_addr *out, const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET) {
		memcpy(out->bytes, mapped, sizeof(mapped));
		memcpy(out->bytes + 12, &((const struct sockaddr_in *)(const void *)sa)->sin_addr, 4);
		return 0;
	}
	if (sa->sa_family == AF_INET6) {
		memcpy(out->bytes, &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr, 16);
		return 0;
	}
	return -EAFNOSUPPORT;
}

int ip_in_network(const struct ip_addr *ip, const char *network)
{
	const char *slash = strchr(network, '/');
	struct ip_addr net;
	char text[IP_TEXT_BYTES];
	unsigned int bits, whole;
	uint8_t rest;
	bool v4;

	if (!slash || (size_t)(slash - network) >= sizeof(text) || !slash[1] || strlen(slash + 1) > 3 ||
		strspn(slash + 1, "0123456789") != strlen(slash + 1))
		return -EINVAL;
	snprintf(text, sizeof(text), "%.*s", (int)(slash - network), network);
	v4 = !strchr(text, ':');
	bits = (unsigned int)strtoul(slash + 1, NULL, 10); /* three digits at most */
	if (ip_parse(&net, text) || bits > (v4 ? 32 : 128))
		return -EINVAL;
	bits += v4 ? 96 : 0;
	whole = bits / 8;
	rest = (uint8_t)(0xff00 >> bits % 8);
	return memcmp(ip->bytes, net.bytes, whole) == 0 &&
	       (bits % 8 == 0 || ((ip->bytes[whole] ^ net.bytes[whole]) & rest) == 0);
}

bool ip_is_host(const struct ip_addr *ip)
{
	static const struct ip_addr zero;
	const uint8_t *b = ip->bytes;

	if (memcmp(b, mapped, sizeof(mapped)) == 0)
		return b[12] != 0 && b[12] < 224;
	return memcmp(b, zero.bytes, 16) != 0 && b[0] != 0xff;
}
