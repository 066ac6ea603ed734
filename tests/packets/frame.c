/* SPDX-License-Identifier: BSD-3-Clause
 * Building the frames of the fixture table; shares no code with the parsers it tests.
 */
#include <string.h>

#include "abi/wire.h"
#include "tests/packets/fixtures.h"

const uint8_t fixture_server_mac[6] = {2, 0, 0, 0, 0, 1}, fixture_client_mac[6] = {2, 0, 0, 0, 0, 2};
const struct ip_addr fixture_server4 = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 77, 0, 1}};
const struct ip_addr fixture_client4 = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 77, 0, 2}};
const struct ip_addr fixture_server6 = {{0xfd, 0x77, [15] = 1}};
const struct ip_addr fixture_client6 = {{0xfd, 0x77, [15] = 2}};
static const struct ip_addr other_client4 = {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 77, 0, 9}};

const struct fixture_session fixture_sessions[FIXTURE_SESSIONS] = {
	{0x04030201, 3, &fixture_client4, false},
	{0x04030202, 4, &fixture_client6, false},
	{0x04030203, 5, &other_client4, false},
	{0x04030204, 6, &fixture_client4, true},
};

enum { PAYLOAD_BYTES = 128 };

static void put(struct frame *f, size_t at, size_t bytes, uint32_t value)
{
	for (size_t i = 0; i < bytes; i++)
		f->data[at + i] = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

static uint32_t get16(const struct frame *f, size_t at)
{
	return (uint32_t)f->data[at] << 8 | f->data[at + 1];
}

/* One's-complement sum of 16-bit words (RFC 1071), the plain way. */
static uint32_t sum16(const uint8_t *p, size_t n, uint32_t sum)
{
	for (size_t i = 0; i < n; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Where the L4 checksum field is, or 0. */
static size_t l4_checksum_offset(uint8_t protocol)
{
	switch (protocol) {
	case 17:
		return 6;
	case 1:
	case 58:
		return 2;
	default:
		return 0;
	}
}

static void l4_checksum(struct frame *f, size_t addresses, size_t address_bytes, uint8_t protocol)
{
	size_t field = l4_checksum_offset(protocol), l4 = f->at[L4], bytes;
	uint32_t sum = 0;

	bytes = f->data[f->at[L3]] >> 4 == 4 ? get16(f, f->at[L3] + 2) - 20 : get16(f, f->at[L3] + 4);
	if (!field || bytes > f->n - l4 || bytes < 8)
		return;
	put(f, l4 + field, 2, 0);
	if (protocol != 1) {
		sum = sum16(f->data + addresses, address_bytes, protocol);
		sum = sum16(NULL, 0, sum + (uint32_t)bytes);
	}
	sum = ~sum16(f->data + l4, bytes, sum) & 0xffff;
	put(f, l4 + field, 2, sum ? sum : 0xffff);
}

void frame_checksums(struct frame *f)
{
	size_t l3 = f->at[L3];

	if (f->n < l3 + 20)
		return;
	if (f->data[l3] >> 4 == 4) {
		put(f, l3 + 10, 2, 0);
		put(f, l3 + 10, 2, ~sum16(f->data + l3, 20, 0) & 0xffff);
		l4_checksum(f, l3 + 12, 8, f->data[l3 + 9]);
	} else if (f->data[l3] >> 4 == 6 && f->n >= l3 + 40) {
		l4_checksum(f, l3 + 8, 32, f->data[l3 + 6]);
	}
}

static void ethernet(struct frame *f, uint16_t type, bool tagged)
{
	memcpy(f->data, fixture_server_mac, 6);
	memcpy(f->data + 6, fixture_client_mac, 6);
	f->n = 12;
	if (tagged) {
		put(f, 12, 4, 0x81000000 | 77);
		f->n = 16;
	}
	put(f, f->n, 2, type);
	f->n += 2;
	f->at[L3] = f->n;
}

static void ipv4(struct frame *f, uint8_t protocol, size_t payload_bytes)
{
	size_t l3 = f->at[L3];

	put(f, l3, 4, 0x45000000 | (uint32_t)(20 + payload_bytes));
	put(f, l3 + 4, 4, 0x12344000); /* don't fragment */
	put(f, l3 + 8, 4, 0x40000000 | (uint32_t)protocol << 16);
	memcpy(f->data + l3 + 12, fixture_client4.bytes + 12, 4);
	memcpy(f->data + l3 + 16, fixture_server4.bytes + 12, 4);
	f->at[L4] = l3 + 20;
	f->at[PAYLOAD] = f->at[L4] + 8;
	f->n = f->at[L4] + payload_bytes;
}

static void ipv6(struct frame *f, uint8_t protocol, size_t payload_bytes)
{
	size_t l3 = f->at[L3];

	put(f, l3, 4, 0x60000000);
	put(f, l3 + 4, 4, (uint32_t)payload_bytes << 16 | (uint32_t)protocol << 8 | 255);
	memcpy(f->data + l3 + 8, fixture_client6.bytes, 16);
	memcpy(f->data + l3 + 24, fixture_server6.bytes, 16);
	f->at[L4] = l3 + 40;
	f->at[PAYLOAD] = f->at[L4] + 8;
	f->n = f->at[L4] + payload_bytes;
}

static void udp_request(struct frame *f, uint32_t key_id)
{
	size_t p = f->at[PAYLOAD];

	put(f, f->at[L4], 4, 40000u << 16 | FIXTURE_PORT);
	put(f, f->at[L4] + 4, 2, 8 + PAYLOAD_BYTES);
	f->data[p] = WIRE_TYPE_REQUEST;
	memcpy(f->data + p + 4, &key_id, 4);
	f->data[p + 8] = 7; /* counter */
	for (size_t i = 16; i < PAYLOAD_BYTES; i++)
		f->data[p + i] = (uint8_t)(i * 37);
}

static void arp_request(struct frame *f)
{
	size_t l3 = f->at[L3];

	put(f, l3, 4, 0x00010800);
	put(f, l3 + 4, 4, 0x06040001);
	memcpy(f->data + l3 + 8, fixture_client_mac, 6);
	memcpy(f->data + l3 + 14, fixture_client4.bytes + 12, 4);
	memcpy(f->data + l3 + 24, fixture_server4.bytes + 12, 4);
	memset(f->data, 0xff, 6);
	f->at[L4] = f->at[PAYLOAD] = l3;
	f->n = l3 + 28;
}

static void solicitation(struct frame *f)
{
	size_t l4;

	ipv6(f, 58, 32);
	l4 = f->at[L4];
	f->data[l4] = 135;
	memcpy(f->data + l4 + 8, fixture_server6.bytes, 16);
	f->data[l4 + 24] = 1; /* option: source link-layer address */
	f->data[l4 + 25] = 1;
	memcpy(f->data + l4 + 26, fixture_client_mac, 6);
}

void frame_base(struct frame *f, enum frame_base base)
{
	bool tagged = base == DATA4_VLAN || base == DATA6_VLAN;
	bool six = base == DATA6 || base == DATA6_VLAN || base == ND || base == ECHO6;

	memset(f, 0, sizeof(*f));
	ethernet(f, base == ARP ? 0x0806 : six ? 0x86dd : 0x0800, tagged);
	switch (base) {
	case DATA4:
	case DATA4_VLAN:
		ipv4(f, 17, 8 + PAYLOAD_BYTES);
		udp_request(f, fixture_sessions[0].key_id);
		break;
	case DATA6:
	case DATA6_VLAN:
		ipv6(f, 17, 8 + PAYLOAD_BYTES);
		udp_request(f, fixture_sessions[1].key_id);
		break;
	case ARP:
		arp_request(f);
		return;
	case ND:
		solicitation(f);
		break;
	case ECHO4:
		ipv4(f, 1, 64);
		f->data[f->at[L4]] = 8;
		break;
	case ECHO6:
		ipv6(f, 58, 64);
		f->data[f->at[L4]] = 128;
		break;
	case TCP4:
		ipv4(f, 6, 20);
		put(f, f->at[L4], 4, 40000u << 16 | FIXTURE_PORT);
		break;
	}
	frame_checksums(f);
}

void frame_build(struct frame *f, const struct fixture *x)
{
	frame_base(f, x->base);
	f->n = (size_t)((int)f->n + x->resize);
	for (int i = 0; i < FIXTURE_EDITS; i++) {
		const struct frame_edit *e = &x->edits[i];

		put(f, f->at[e->layer] + e->offset, e->bytes, e->value);
	}
	if (x->checksums == FIX)
		frame_checksums(f);
}
