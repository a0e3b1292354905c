/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that may block, for one loop: all of the posix back end's operations, and under io_uring the few calls that it
 * cannot do. Operations come in and go back through two lists under one lock; one message a batch tells the loop.
 */
#define _GNU_SOURCE
#include <assert.h>
#include <signal.h>
#include <stdlib.h>

#include "io/loop.h"

#define POOL_THREADS_MAX 16u

struct pool {
    struct io *io;
    struct io_msg told; /* tells the loop that `done` is not empty */
    uint32_t threads;
    pthread_t thread[POOL_THREADS_MAX];

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work;
    struct list queue, done;
    uint32_t idle;
    bool telling; /* `told` is under way */
    bool closing;
};

static void list_move_all(struct list *from, struct list *to)
{
    for (struct list *item; (item = list_pop(from)) != NULL;) list_push(to, item);
}

/* ---- on the pool's threads ---- */

/* The next operation, NULL when the pool closes. With the lock. */
static struct io_op *pool_next(struct pool *pool)
{
    while (list_empty(&pool->queue) && !pool->closing) {
        pool->idle++;
        pthread_cond_wait(&pool->work, &pool->lock);
        pool->idle--;
    }
    struct list *item = list_pop(&pool->queue);
    return item == NULL ? NULL : CONTAINER(item, struct io_op, link);
}

static void *pool_thread(void *arg)
{
    struct pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    for (struct io_op *op; (op = pool_next(pool)) != NULL;) {
        pthread_mutex_unlock(&pool->lock);
        op_perform(op);
        pthread_mutex_lock(&pool->lock);
        list_push(&pool->done, &op->link);
        if (pool->telling) continue;
        pool->telling = true;
        pthread_mutex_unlock(&pool->lock);
        io_send(pool->io, &pool->told);
        pthread_mutex_lock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* ---- on the loop ---- */

static void pool_told(struct io_msg *msg)
{
    struct pool *pool = CONTAINER(msg, struct pool, told);
    struct list done;
    list_init(&done);
    pthread_mutex_lock(&pool->lock);
    pool->telling = false;
    list_move_all(&pool->done, &done);
    pthread_mutex_unlock(&pool->lock);
    for (struct list *item; (item = list_pop(&done)) != NULL;) {
        pool->io->started--;
        op_finish(CONTAINER(item, struct io_op, link));
    }
}

void pool_submit(struct pool *pool, struct list *ops)
{
    uint32_t count = 0;
    pthread_mutex_lock(&pool->lock);
    for (struct list *item; (item = list_pop(ops)) != NULL; count++) list_push(&pool->queue, item);
    uint32_t wake = count < pool->idle ? count : pool->idle;
    pthread_mutex_unlock(&pool->lock);
    for (; wake > 0; wake--) pthread_cond_signal(&pool->work);
}

/* ---- life ---- */

static uint32_t pool_start(struct pool *pool, uint32_t threads)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the thread that owns the process */
    while (pool->threads < threads && pthread_create(&pool->thread[pool->threads], NULL, pool_thread, pool) == 0) {
        pool->threads++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return pool->threads;
}

enum err pool_open(struct io *io, uint32_t threads, struct pool **ret_pool)
{
    assert(threads >= 1 && threads <= POOL_THREADS_MAX);
    struct pool *pool = calloc(1, sizeof *pool);
    if (pool == NULL) return ERR_NO_MEMORY;
    pool->io = io;
    pool->told.handle = pool_told;
    list_init(&pool->queue);
    list_init(&pool->done);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    if (pool_start(pool, threads) == 0) {
        pool_close(pool);
        return ERR_NO_MEMORY;
    }
    *ret_pool = pool;
    return OK;
}

void pool_close(struct pool *pool)
{
    if (pool == NULL) return;
    pthread_mutex_lock(&pool->lock);
    assert(list_empty(&pool->queue) && list_empty(&pool->done));
    pool->closing = true;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i < pool->threads; i++) pthread_join(pool->thread[i], NULL);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}
