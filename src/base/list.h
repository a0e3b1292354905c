/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A doubly linked list whose links live in its members. An unlinked member points at itself or is all zero.
 */
#ifndef IZAR_BASE_LIST_H
#define IZAR_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

#define CONTAINER(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline void list_init(struct list *head)
{
    head->next = head->prev = head;
}

static inline bool list_empty(const struct list *head)
{
    return head->next == head || head->next == NULL;
}

/* Links `item` in as the last member. */
static inline void list_push(struct list *head, struct list *item)
{
    item->prev = head->prev;
    item->next = head;
    head->prev->next = item;
    head->prev = item;
}

/* Links `item` in as the first member. */
static inline void list_push_front(struct list *head, struct list *item)
{
    item->next = head->next;
    item->prev = head;
    head->next->prev = item;
    head->next = item;
}

static inline void list_remove(struct list *item)
{
    item->prev->next = item->next;
    item->next->prev = item->prev;
    item->next = item->prev = item;
}

/* Takes the first member out, NULL when empty. */
static inline struct list *list_pop(struct list *head)
{
    if (list_empty(head)) return NULL;
    struct list *item = head->next;
    list_remove(item);
    return item;
}

#endif
