/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Goal: what a fuzzer found once stays fixed, in every build, also where there is no libFuzzer. Method: feeds the kept
 * inputs of one directory to the fuzzer's entry point in the order of their names, and after each a fixed number of
 * mutations of it (bytes changed, cut, repeated), the same in every run. A crash, an assertion or a sanitizer fails it.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/prng.h"

#define INPUT_MAX (1u << 20)
#define MUTATIONS 300

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The fuzzer gets a copy of exactly `size` bytes, so that reading one too many is seen by a sanitizer or valgrind. */
static void feed(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size > 0 ? size : 1);
    if (copy == NULL) exit(2);
    memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
}

static size_t mutate(struct prng *prng, uint8_t *data, size_t size)
{
    static const uint8_t telling[] = {0, 1, 0x7f, 0x80, 0xff};
    for (uint64_t change = 0; change <= prng_below(prng, 4) && size > 0; change++) {
        size_t at = (size_t)prng_below(prng, size);
        switch (prng_below(prng, 5)) {
        case 0: data[at] = (uint8_t)prng_next(prng); break;
        case 1: data[at] ^= (uint8_t)(1u << prng_below(prng, 8)); break;
        case 2: data[at] = telling[prng_below(prng, sizeof telling)]; break;
        case 3: size = at; break;
        default: memmove(data + at, data, size - at); break;
        }
    }
    return size;
}

static void feed_mutations(const uint8_t *data, size_t size, uint64_t seed)
{
    static uint8_t changed[INPUT_MAX];
    struct prng prng;
    prng_init(&prng, seed);
    for (int i = 0; i < MUTATIONS; i++) {
        memcpy(changed, data, size);
        feed(changed, mutate(&prng, changed, size));
    }
}

static int no_dot(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static bool feed_file(const char *directory, const char *name, uint64_t seed)
{
    static uint8_t data[INPUT_MAX];
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        return false;
    }
    size_t size = fread(data, 1, sizeof data, file);
    fclose(file);
    printf("%s, %zu bytes\n", name, size);
    fflush(stdout); /* the last line names the input that crashed */
    feed(data, size);
    feed_mutations(data, size, seed);
    return true;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s DIRECTORY\n", argv[0]);
        return 2;
    }
    struct dirent **entries = NULL;
    int count = scandir(argv[1], &entries, no_dot, alphasort);
    if (count <= 0) {
        fprintf(stderr, "%s: no inputs there; a fuzzer keeps at least one\n", argv[1]);
        return 1;
    }
    bool fine = true;
    for (int i = 0; i < count; i++) {
        fine = feed_file(argv[1], entries[i]->d_name, (uint64_t)i) && fine;
        free(entries[i]);
    }
    free(entries);
    return fine ? 0 : 1;
}
