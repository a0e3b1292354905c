/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: no text harms the reader of join tokens, and no bytes that of the identity's file. Method: any bytes as a token's text;
 * as what a token's text stands for, with the checksum set right; and as a file. What is accepted encodes to the same again.
 */
#include "cluster/identity_file.h"
#include "fuzz/fuzz.h"

static void token(const char *text)
{
    struct token t, back;
    char again[TOKEN_TEXT_MAX];
    if (token_decode(text, &t) != OK) return;
    REQUIRE(t.node > 0 && t.address_count > 0 && t.address_count <= TOKEN_ADDRESSES_MAX);
    REQUIRE(token_encode(&t, again) == OK && token_decode(again, &back) == OK && memcmp(&t, &back, sizeof t) == 0);
    while (*text == ' ' || *text == '\t' || *text == '\r' || *text == '\n') text++;
    for (size_t i = 0; again[i] != '\0'; i++) REQUIRE((again[i] | 0x20) == (text[i] | 0x20));
}

/* RFC 4648 base32 of the bytes and their CRC, behind the prefix. */
static void token_bytes(const uint8_t *data, size_t size)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    static char text[8192];
    uint8_t bytes[4096];
    if (size > sizeof bytes - 4) return;
    if (size > 0) memcpy(bytes, data, size);
    memcpy(bytes + size, put32(crc32c(0, bytes, size)).b, 4);
    size_t used = 5;
    memcpy(text, "IZJ1-", 5);
    for (size_t bit = 0; bit < (size + 4) * 8; bit += 5) {
        uint32_t value = 0;
        for (size_t i = bit; i < bit + 5; i++) value = value << 1 | (i < (size + 4) * 8 ? bytes[i / 8] >> (7 - i % 8) & 1u : 0);
        text[used++] = alphabet[value];
    }
    text[used] = '\0';
    token(text);
}

static void file(const uint8_t *data, size_t size)
{
    static struct identity identity;
    static struct token_book book;
    static uint8_t again[IDENTITY_FILE_MAX];
    uint64_t generation;
    uint8_t *copy = fuzz_copy(data, size);
    if (size >= 56) { /* the checksum as it should be */
        memset(copy + 24, 0, 4);
        uint32_t bytes = fuzz_get32(copy, size, 12);
        le32 crc = put32(crc32c(0, copy, bytes >= 56 && bytes <= size ? bytes : size));
        memcpy(copy + 24, crc.b, 4);
    }
    if (identity_decode(copy, size, &identity, &book, &generation) == OK) {
        REQUIRE(identity.key.bytes <= DER_MAX && (identity.node > 0 || identity.key.bytes == 0));
        REQUIRE(identity_encode(&identity, &book, generation, again) <= sizeof again);
    }
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[FUZZ_INPUT_MAX + 1];
    if (size > FUZZ_INPUT_MAX) return 0;
    if (size > 0) memcpy(text, data, size);
    text[size] = '\0';
    token(text);
    token_bytes(data, size);
    file(data, size);
    return 0;
}
