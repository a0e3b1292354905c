/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A read: bounds, then the store. It takes no lock: it sees each block as the last published change left it, and a change that
 * was acknowledged before the read began is published. Of a volume with replicas, its host says when that holds here,
 * and reads the blocks: what this node's disks lost comes from another one.
 */
#include "volume/internal.h"

static void read_done(struct store_read *read)
{
    struct volume_request *r = CONTAINER(read, struct volume_request, read);
    r->bad = read->bad * BLOCK_SIZE;
    request_end(r, read->err);
}

static void load_done(struct host_load *load)
{
    struct volume_request *r = CONTAINER(load, struct volume_request, load);
    r->bad = load->bad * BLOCK_SIZE;
    request_end(r, load->err);
}

static void read_now(struct volume_request *r)
{
    r->read = (struct store_read){
        .done = read_done, .volume = r->volume->id, .lba = r->first, .count = (uint32_t)r->count, .data = r->data};
    if (r->verb == VOLUME_STATUS) {
        r->read.mapped = r->data;
        r->read.data = NULL;
    }
    store_read(r->volume->volumes->store, &r->read);
}

static void allowed(struct host_read *allow)
{
    struct volume_request *r = CONTAINER(allow, struct volume_request, allow);
    if (allow->err == OK && r->verb == VOLUME_READ && r->volume->host != NULL) {
        r->load = (struct host_load){.done = load_done, .lba = r->first, .count = (uint32_t)r->count, .data = r->data};
        host_load(r->volume->host, &r->load);
    } else if (allow->err == OK) {
        read_now(r);
    } else {
        request_end(r, allow->err);
    }
}

void read_start(struct volume_request *r)
{
    struct volume *v = r->volume;
    if (v->replica.number == 0) {
        read_now(r);
    } else if (v->host == NULL) {
        request_end(r, ERR_AGAIN);
    } else {
        r->allow = (struct host_read){.done = allowed, .lba = r->first, .count = (uint32_t)r->count};
        host_read(v->host, &r->allow);
    }
}
