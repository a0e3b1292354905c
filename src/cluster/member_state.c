/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a member knows: the newest state of the register that was decided, the roster in it, and a copy of both on disk.
 *
 * The copy has the form of an acceptor's file (codec.h), because it holds the same: members and value. It is no acceptor:
 * nobody asks it for promises. It says whom to look for at a start, and lets a node without an acceptor tell what it last knew.
 */
#include "base/bytes.h"
#include "cluster/member_internal.h"

static const char *const names[2] = {"roster.0", "roster.1"};

static enum err check(const void *at, size_t size, uint64_t *ret_generation)
{
    struct acceptor image;
    return acceptor_image_decode(at, size, &image, ret_generation);
}

/* Takes a copy of the state and of the roster in it. */
static enum err adopt(struct member *m, const struct register_state *state)
{
    void *bytes = mem_alloc(m->mem, state->size > 0 ? state->size : 1);
    if (bytes == NULL) return ERR_NO_MEMORY;
    memcpy(bytes, state->bytes, state->size);
    enum err err = roster_decode(bytes, state->size, m->draft);
    if (err == OK && memcmp(&m->draft->cluster, &m->cluster, sizeof m->cluster) != 0) err = ERR_NOT_OURS;
    if (err != OK) {
        mem_free(m->mem, bytes);
        return err;
    }
    mem_free(m->mem, m->bytes);
    *m->roster = *m->draft;
    m->bytes = bytes;
    m->known = *state;
    m->known.bytes = bytes;
    user_changed(m);
    return OK;
}

static bool is_newer(const struct member *m, const struct register_state *state)
{
    if (state->version != m->known.version) return state->version > m->known.version;
    return state->members.epoch > m->known.members.epoch;
}

void state_learn(struct member *m, const struct register_state *state)
{
    if (state->version == 0 || !is_newer(m, state)) return;
    enum err err = adopt(m, state);
    if (err != OK) {
        member_say(m, true, "what the cluster agreed on cannot be read here: %s%s", err_text(err),
                   err == ERR_NEW_FORMAT ? "; install the newer version of Izar on this node too" : "");
        return;
    }
    m->saved = false;
    keeper_kick(m);
}

enum err state_save(struct member *m)
{
    struct acceptor image = {.id = m->number, .promised = {.round = 1}, .accepted = {.round = 1}, .state = m->known};
    size_t size;
    if (m->saved || m->known.version == 0) return OK;
    memcpy(image.cluster, m->cluster.b, sizeof image.cluster);
    TRY(acceptor_image_encode(&image, ++m->cache_generation, m->image, ACCEPTOR_IMAGE_MAX, &size));
    struct register_state writing = m->known;
    TRY(pair_write(&m->cache, m->image, size));
    m->saved = writing.version == m->known.version && writing.members.epoch == m->known.members.epoch;
    return OK;
}

void state_forget(struct member *m)
{
    mem_free(m->mem, m->bytes);
    m->bytes = NULL;
    m->known = (struct register_state){.version = 0};
    if (m->roster != NULL) *m->roster = (struct roster){.next = 0};
    user_changed(m);
}

/* [task] Which of the two copies on disk counts; -1: none. */
static int find_newest(struct member *m)
{
    struct pair_copy copies[2];
    for (uint32_t i = 0; i < 2; i++) {
        copies[i] = pair_read(&m->cache, i, check, m->image, ACCEPTOR_IMAGE_MAX);
        if (copies[i].err == OK) m->cache_generation = max64(m->cache_generation, copies[i].generation);
    }
    return pair_newest(copies);
}

void state_hint(struct member *m, const struct register_state *state)
{
    if (adopt(m, state) != OK) return;
    m->known.version = 0;
    m->known.members = (struct register_members){.epoch = 0};
}

enum err state_first(struct member *m, const struct register_state *state)
{
    uint32_t which;
    TRY(pair_open(m->io, m->config.folder, names, &m->cache, &which));
    m->cache_open = true;
    enum err err = adopt(m, state);
    m->saved = false;
    find_newest(m); /* for the generation */
    if (err == OK) err = state_save(m);
    state_close(m);
    return err;
}

enum err state_open(struct member *m)
{
    struct acceptor image;
    uint64_t generation;
    uint32_t which;
    TRY(pair_open(m->io, m->config.folder, names, &m->cache, &which));
    m->cache_open = true;
    m->saved = false;
    int newest = find_newest(m);
    if (newest < 0) return OK; /* then the acceptor here, or the others, will tell */
    struct pair_copy copy = pair_read(&m->cache, (uint32_t)newest, check, m->image, ACCEPTOR_IMAGE_MAX);
    TRY(copy.err);
    TRY(acceptor_image_decode(m->image, copy.size, &image, &generation));
    if (image.accepted.round == 0 || memcmp(image.cluster, m->cluster.b, sizeof image.cluster) != 0) return OK;
    enum err err = adopt(m, &image.state);
    if (err == ERR_NEW_FORMAT || err == ERR_NO_MEMORY) return err;
    m->saved = err == OK;
    return OK;
}

void state_close(struct member *m)
{
    if (m->cache_open) pair_close(&m->cache);
    m->cache_open = false;
}
