/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The key of the pool's fingerprints. All pools of a cluster have the same one, that of its first node's pool: what two of them
 * stored can be compared by fingerprints only then.
 *
 * A node that joins gives its pool that key before it is a member, so its pool must hold no volume: this is asked before the
 * cluster is, and nothing is erased. The pool stays what it was, but for its key (store_key_set), and a crash leaves it with
 * the old one or the new one; a node that is no member yet may have either. A pool that was put in place of another one under a
 * member gets the key at the start.
 */
#include <string.h>

#include "api/internal.h"
#include "base/sha.h"

static_assert((int)POOL_KEY_BYTES == (int)STORE_KEY_BYTES && STORE_KEY_BYTES == FINGERPRINT_SECRET, "a key is a key");

/* ---- looking ---- */

static uint32_t volumes_held(const struct node *node)
{
    struct store_volume_info info = {.id = 0};
    uint32_t count = 0;
    for (; store_volume_next(node->store, info.id + 1, &info) == OK; count++) continue;
    return count;
}

/* True when the pool has this key. */
static bool has_key(const struct node *node, const uint8_t key[POOL_KEY_BYTES])
{
    uint8_t own[STORE_KEY_BYTES];
    store_key_get(node->store, own);
    return memcmp(own, key, sizeof own) == 0;
}

const char *node_key_id(const struct node *node, char ret_text[KEY_ID_SIZE])
{
    uint8_t own[STORE_KEY_BYTES], digest[DIGEST_BYTES_MAX];
    struct text t;
    store_key_get(node->store, own);
    digest_of(DIGEST_SHA256, own, sizeof own, digest);
    text_init(&t, ret_text, KEY_ID_SIZE);
    text_add_hex(&t, digest, (KEY_ID_SIZE - 1) / 2);
    return ret_text;
}

bool node_key_is_foreign(const struct node *node)
{
    uint8_t key[POOL_KEY_BYTES];
    return node->store != NULL && member_knows_key(node->member, NULL, key) && !has_key(node, key);
}

/* ---- changing ---- */

/* Nothing makes a volume meanwhile. */
static enum err set_key(struct node *node, const uint8_t key[POOL_KEY_BYTES])
{
    if (has_key(node, key)) return OK;
    TRY(store_key_set(node->store, key));
    trace(TRACE_NOTICE, "the pool has the fingerprint key of the cluster now");
    return OK;
}

enum err node_key_may_join(const struct node *node, const char *token, struct problem *p)
{
    uint8_t key[POOL_KEY_BYTES];
    uint32_t held = node->store != NULL ? volumes_held(node) : 0;
    if (held == 0 || (member_knows_key(node->member, token, key) && has_key(node, key))) return OK;
    problem_help(p,
                 "move what is in them elsewhere and delete them (izar volume list), or start izard with a new pool (--pool); "
                 "then join with the same token");
    return problem_tell(
        p, ERR_BUSY,
        "the pool of this node holds %u volume%s, and with them it cannot take over the fingerprint key that all "
        "pools of a cluster share",
        held, held > 1 ? "s" : "");
}

void node_own_key(void *arg, uint8_t ret_key[POOL_KEY_BYTES])
{
    const struct node *node = arg;
    store_key_get(node->store, ret_key);
}

enum err node_take_key(void *arg, const uint8_t key[POOL_KEY_BYTES], struct member_why *why)
{
    struct node *node = arg;
    struct problem p = {.err = OK};
    if (node->store == NULL) return OK;
    node_change_begin(node);
    enum err err = has_key(node, key) ? OK : node_key_may_join(node, "", &p);
    if (err == OK) err = set_key(node, key);
    node_change_end(node);
    if (err == OK) return OK;
    snprintf(why->text, sizeof why->text, "%.300s", p.err != OK ? p.detail : "");
    if (p.err == OK) snprintf(why->text, sizeof why->text, "the pool cannot take over the cluster's key: %s", err_text(err));
    snprintf(why->help, sizeof why->help, "%.250s", p.remedy);
    return err;
}

void node_key_settle(struct node *node)
{
    uint8_t key[POOL_KEY_BYTES];
    if (!node_key_is_foreign(node) || !member_knows_key(node->member, NULL, key)) return;
    enum err err = volumes_held(node) > 0 ? ERR_BUSY : set_key(node, key);
    if (err != OK) trace(TRACE_WARNING, "%s: %s", KEY_FOREIGN, err_text(err));
}
