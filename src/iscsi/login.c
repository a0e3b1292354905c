/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Login (RFC 7143 6.3, 11.12, 11.13): security negotiation, operational negotiation, full feature. Each request is answered on
 * its own; what was agreed so far stands in conn->login. Until the last answer nothing of a session exists.
 *
 * A session that comes again (same initiator name and ISID) takes the place of the old one, which is cut first; the last answer
 * waits until nothing of the old one can be executed any more (RFC 7143 6.3.5).
 */
#include <string.h>

#include "iscsi/internal.h"
#include "store/mutation.h"

enum { STAGE_SECURITY = 0, STAGE_OPERATIONAL = 1, STAGE_FULL = 3 };

/* Status class << 8 | detail (RFC 7143 11.13.5). */
enum status {
    LOGIN_OK = 0x0000,
    LOGIN_INITIATOR_ERROR = 0x0200,
    LOGIN_AUTHENTICATION = 0x0201,
    LOGIN_FORBIDDEN = 0x0202,
    LOGIN_NOT_FOUND = 0x0203,
    LOGIN_VERSION = 0x0205,
    LOGIN_TOO_MANY = 0x0206,
    LOGIN_MISSING = 0x0207,
    LOGIN_SESSION_TYPE = 0x0209,
    LOGIN_NO_SESSION = 0x020a,
    LOGIN_INVALID = 0x020b,
    LOGIN_BUSY = 0x0302,
};

/* ---- answers ---- */

static struct iscsi_out *response(struct iscsi_conn *conn, uint8_t flags, enum status status)
{
    struct iscsi_out *out = out_take(conn, PDU_LOGIN_RESPONSE, flags, conn->login.itt);
    assert(out != NULL); /* one request at a time, and there is room for more */
    uint64_t isid = (uint64_t)be16_at(conn->isid) << 32 | be32_at(conn->isid + 2);
    out->pdu.lun = isid << 16 | conn->tsih;
    out->pdu.w[3] = (uint32_t)status << 16;
    out->counts = true;
    return out;
}

static void refuse(struct iscsi_conn *conn, enum status status)
{
    struct iscsi_stats *stats = &conn->target->stats;
    stats->login_failures++;
    struct iscsi_out *out = response(conn, 0, status);
    out->last = true;
    conn->rx_stopped = true; /* nothing more is of interest */
    out_send(conn, out);
}

/* ---- keys ---- */

static enum status take_name(struct iscsi_conn *conn, const char *value)
{
    size_t length = strlen(value);
    if (length == 0 || length > ISCSI_NAME_MAX) return LOGIN_INITIATOR_ERROR;
    for (size_t i = 0; i < length; i++)
        if ((uint8_t)value[i] <= ' ' || value[i] == 0x7f) return LOGIN_INITIATOR_ERROR;
    if (conn->initiator[0] != '\0') return strcmp(conn->initiator, value) == 0 ? LOGIN_OK : LOGIN_INITIATOR_ERROR;
    memcpy(conn->initiator, value, length + 1);
    return LOGIN_OK;
}

/* Bytes of a foreign text that is shown to people. */
void login_alias(struct iscsi_conn *conn, const char *value)
{
    size_t n = 0;
    for (; value[n] != '\0' && n + 1 < sizeof conn->alias; n++) conn->alias[n] = (uint8_t)value[n] < ' ' ? '?' : value[n];
    conn->alias[n] = '\0';
}

/* What the first request was checked against holds: said again it must be the same (RFC 7143 6.3, 13.4, 13.21). */
static enum status take_target_name(struct login *l, const char *value)
{
    if (strlen(value) > ISCSI_NAME_MAX) return LOGIN_NOT_FOUND;
    if (l->has_target_name) return strcmp(l->target_name, value) == 0 ? LOGIN_OK : LOGIN_INITIATOR_ERROR;
    memcpy(l->target_name, value, strlen(value) + 1);
    l->has_target_name = true;
    return LOGIN_OK;
}

static enum status take_type(struct iscsi_conn *conn, const char *value)
{
    struct login *l = &conn->login;
    bool discovery = strcmp(value, "Discovery") == 0;
    if (!discovery && strcmp(value, "Normal") != 0) return LOGIN_SESSION_TYPE;
    if (l->has_type) return conn->discovery == discovery ? LOGIN_OK : LOGIN_INITIATOR_ERROR;
    l->has_type = true;
    conn->discovery = l->negotiation.discovery = discovery;
    return LOGIN_OK;
}

static enum status take_key(struct iscsi_conn *conn, const char *key, const char *value, struct keys_out *out)
{
    struct login *l = &conn->login;
    if (strcmp(key, "InitiatorName") == 0) return take_name(conn, value);
    if (strcmp(key, "InitiatorAlias") == 0) {
        login_alias(conn, value);
        return LOGIN_OK;
    }
    if (strcmp(key, "TargetName") == 0) return take_target_name(l, value);
    if (strcmp(key, "SessionType") == 0) return take_type(conn, value);
    if (strcmp(key, "AuthMethod") == 0) {
        l->offered_none = keys_list_has(value, "None");
        l->offered_chap = keys_list_has(value, "CHAP");
        return LOGIN_OK;
    }
    if (chap_take(&l->chap, key, value)) return LOGIN_OK;
    enum err err = negotiation_take(&l->negotiation, key, value, out);
    if (err == ERR_UNSUPPORTED) keys_add(out, key, "NotUnderstood");
    return err == ERR_DECODE ? LOGIN_INITIATOR_ERROR : LOGIN_OK;
}

static enum status take_keys(struct iscsi_conn *conn, struct keys_out *out)
{
    char *at = (char *)conn->text, *key, *value;
    size_t left = conn->text_bytes;
    for (;;) {
        enum err err = keys_next(&at, &left, &key, &value);
        if (err == ERR_NO_KEY) return LOGIN_OK;
        if (err != OK) return LOGIN_INITIATOR_ERROR;
        enum status status = take_key(conn, key, value, out);
        if (status != LOGIN_OK) return status;
    }
}

/* ---- who is it ---- */

static bool is_same_session(const struct iscsi_conn *a, const struct iscsi_conn *b)
{
    return strcmp(a->initiator, b->initiator) == 0 && memcmp(a->isid, b->isid, sizeof a->isid) == 0;
}

/* A TSIH asks for a connection in the session of that number, initiator name and ISID (RFC 7143 6.3.1). What there is has all
 * the connections that it can have. One in place of a dead one (6.3.4) would have to go on with numbers that both sides may
 * have counted differently, which at error recovery level 0 nobody can mend: such an initiator logs in with TSIH 0 (6.3.5). */
static bool session_named(const struct iscsi_conn *conn)
{
    const struct list *conns = &conn->target->conns;
    for (const struct list *l = conns->next; l != conns; l = l->next) {
        const struct iscsi_conn *c = CONTAINER(l, struct iscsi_conn, link);
        if (c->tsih == conn->pdu.tsih && c->state != CONN_CLOSING && is_same_session(c, conn)) return true;
    }
    return false;
}

static enum status first_request(struct iscsi_conn *conn)
{
    struct login *l = &conn->login;
    struct iscsi_target *target = conn->target;
    l->has_type = true; /* who says nothing says Normal */
    if (conn->initiator[0] == '\0') return LOGIN_MISSING;
    if (!conn->discovery && !l->has_target_name) return LOGIN_MISSING;
    if (!conn->discovery && strcmp(l->target_name, target->name) != 0) return LOGIN_NOT_FOUND;
    if (!target->config.rules.admit(target->config.rules.arg, conn->initiator, &l->access)) return LOGIN_FORBIDDEN;
    if (conn->pdu.tsih != 0) return session_named(conn) ? LOGIN_TOO_MANY : LOGIN_NO_SESSION;
    l->needs_chap = l->access.initiator.user[0] != '\0';
    l->authentic = !l->needs_chap;
    return LOGIN_OK;
}

/* The method, in the first answer of the security stage. */
static enum status choose_method(struct iscsi_conn *conn, struct keys_out *out)
{
    struct login *l = &conn->login;
    if (!l->offered_chap && !l->offered_none) return LOGIN_OK;
    bool chap = l->needs_chap;
    if (chap && !l->offered_chap) return LOGIN_AUTHENTICATION;
    if (!chap && !l->offered_none) return LOGIN_AUTHENTICATION; /* it insists on CHAP, and we have no secret for it */
    keys_add(out, "AuthMethod", chap ? "CHAP" : "None");
    l->offered_chap = l->offered_none = false;
    return LOGIN_OK;
}

static enum status security(struct iscsi_conn *conn, struct keys_out *out)
{
    struct login *l = &conn->login;
    uint8_t random[CHAP_CHALLENGE + 1];
    const struct chap *c = &l->chap;
    bool chap_keys =
        c->algorithms != NULL || c->name != NULL || c->response != NULL || c->their_id != NULL || c->their_challenge != NULL;
    if (chap_keys && !l->needs_chap) return LOGIN_AUTHENTICATION;
    if (!chap_keys) return choose_method(conn, out);
    io_random(conn->target->io, random, sizeof random);
    if (chap_answer(&l->chap, &l->access.initiator, &l->access.target, random, out) != OK) return LOGIN_AUTHENTICATION;
    if (l->chap.step != CHAP_DONE) return LOGIN_OK;
    l->authentic = conn->chap = true;
    conn->mutual = l->chap.mutual;
    return LOGIN_OK;
}

/* ---- the session that results ---- */

/* Cuts sessions of the same name and ISID. True: some of it is still there. */
static bool old_session_lives(struct iscsi_conn *conn)
{
    struct iscsi_target *target = conn->target;
    bool lives = false;
    if (conn->discovery) return false;
    for (struct list *l = target->conns.next, *next; l != &target->conns; l = next) {
        struct iscsi_conn *old = CONTAINER(l, struct iscsi_conn, link);
        next = l->next;
        if (old == conn || old->discovery || old->tsih == 0) continue;
        if (!is_same_session(old, conn)) continue;
        conn_cut(old);
        lives = !MUTATED(MUTATE_REINSTATE_EARLY);
    }
    return lives;
}

static bool tsih_lives(const struct iscsi_target *target, uint16_t tsih)
{
    for (const struct list *l = target->conns.next; l != &target->conns; l = l->next) {
        const struct iscsi_conn *c = CONTAINER(l, struct iscsi_conn, link);
        if (c->tsih == tsih && c->state != CONN_CLOSING) return true;
    }
    return false;
}

static void full_feature(struct iscsi_conn *conn, struct iscsi_out *out)
{
    struct iscsi_target *target = conn->target;
    uint16_t tsih = target->next_tsih;
    while (++tsih == 0 || tsih_lives(target, tsih)) continue;
    conn->tsih = target->next_tsih = tsih;
    conn->limits = conn->login.negotiation.limits;
    conn->limits.first_burst = min32(conn->limits.first_burst, conn->limits.max_burst);
    out->pdu.lun = (out->pdu.lun & ~(uint64_t)0xffff) | conn->tsih;
    out->full_feature_after = true;
    conn->rx_stopped = true; /* until that answer is out: digests begin behind it */
    target->stats.logins++;
}

/* ---- one request ---- */

static void answer(struct iscsi_conn *conn, struct keys_out *keys, uint8_t next_stage, bool transit)
{
    struct login *l = &conn->login;
    uint8_t flags = (uint8_t)(l->stage << 2);
    if (transit) flags |= (uint8_t)(PDU_TRANSIT | next_stage);
    if (l->stage == STAGE_OPERATIONAL) negotiation_declare(&l->negotiation, keys);
    if (transit && next_stage == STAGE_FULL) {
        if (old_session_lives(conn)) {
            l->waits = true; /* login_goes_on sends it */
        } else if (!session_begin(conn)) {
            refuse(conn, LOGIN_BUSY);
            return;
        }
    }
    struct iscsi_out *out = response(conn, flags, LOGIN_OK);
    assert(keys->used <= sizeof out->data);
    memcpy(out->data, keys->at, keys->used);
    out->bytes = (uint32_t)keys->used;
    if (transit) l->stage = next_stage;
    l->transit_full = transit && next_stage == STAGE_FULL;
    if (l->waits) {
        conn->rx_stopped = true;
        l->kept = out;
        return;
    }
    if (l->transit_full) full_feature(conn, out);
    out_send(conn, out);
}

void login_goes_on(struct iscsi_conn *conn)
{
    struct login *l = &conn->login;
    if (!l->waits || conn->state != CONN_LOGIN || old_session_lives(conn)) return;
    l->waits = false;
    struct iscsi_out *out = l->kept;
    l->kept = NULL;
    if (!session_begin(conn)) {
        out_give(conn, out);
        refuse(conn, LOGIN_BUSY);
        return;
    }
    full_feature(conn, out);
    out_send(conn, out);
}

static enum status begin(struct iscsi_conn *conn)
{
    const struct pdu *p = &conn->pdu;
    const struct iscsi_target_config *c = &conn->target->config;
    struct login *l = &conn->login;
    l->began = true;
    l->stage = p->flags >> 2 & 3;
    memcpy(conn->isid, p->isid, sizeof conn->isid);
    conn->cid = p->cid;
    conn->exp_cmd_sn = p->cmd_sn;
    conn->max_cmd_sn = p->cmd_sn - 1;
    conn->stat_sn = 1;
    negotiation_init(&l->negotiation, c->max_receive_bytes, c->max_burst_bytes, c->first_burst_bytes);
    if (p->version_min > 0) return LOGIN_VERSION;
    return LOGIN_OK;
}

static enum status check_stages(const struct iscsi_conn *conn)
{
    const struct pdu *p = &conn->pdu;
    uint8_t now = p->flags >> 2 & 3, next = p->flags & 3;
    bool transit = p->flags & PDU_TRANSIT;
    if (now != conn->login.stage || (now != STAGE_SECURITY && now != STAGE_OPERATIONAL)) return LOGIN_INVALID;
    if (transit && (next <= now || next == 2)) return LOGIN_INVALID;
    if (transit && (p->flags & PDU_CONTINUE)) return LOGIN_INVALID;
    if (memcmp(p->isid, conn->isid, sizeof conn->isid) != 0) return LOGIN_INVALID;
    return LOGIN_OK;
}

/* All of one request's text is there. */
static enum status process(struct iscsi_conn *conn, struct keys_out *out)
{
    struct login *l = &conn->login;
    bool first = conn->initiator[0] == '\0';
    enum status status = take_keys(conn, out);
    if (status == LOGIN_OK && first) status = first_request(conn);
    if (status == LOGIN_OK && l->stage == STAGE_SECURITY) status = security(conn, out);
    if (status == LOGIN_OK && l->stage == STAGE_OPERATIONAL && !l->authentic) status = LOGIN_AUTHENTICATION;
    if (status == LOGIN_OK && !l->declared_tpgt && !conn->discovery) {
        keys_add(out, "TargetPortalGroupTag", "%u", conn->target->config.portal_group);
        if (conn->target->alias[0] != '\0') keys_add(out, "TargetAlias", "%s", conn->target->alias);
    }
    l->declared_tpgt = true;
    if (status == LOGIN_OK && out->full) status = LOGIN_BUSY;
    return status;
}

void login_pdu(struct iscsi_conn *conn)
{
    char text[OUT_BYTES - 64]; /* room for what answer adds */
    struct keys_out out;
    const struct pdu *p = &conn->pdu;
    struct login *l = &conn->login;
    enum status status = l->began ? LOGIN_OK : begin(conn);
    l->itt = p->itt;
    if (status == LOGIN_OK) status = check_stages(conn);
    if (status == LOGIN_OK && conn->text_bytes + p->data_bytes > TEXT_BYTES) status = LOGIN_INITIATOR_ERROR;
    if (status != LOGIN_OK) {
        refuse(conn, status);
        return;
    }
    conn->text_bytes += p->data_bytes;
    if (p->flags & PDU_CONTINUE) { /* more text follows: an empty answer asks for it */
        out_send(conn, response(conn, (uint8_t)(l->stage << 2), LOGIN_OK));
        return;
    }
    keys_out_init(&out, text, sizeof text);
    status = process(conn, &out);
    conn->text_bytes = 0;
    if (status != LOGIN_OK) {
        refuse(conn, status);
        return;
    }
    /* Who has not proved itself stays where it is. */
    bool transit = (p->flags & PDU_TRANSIT) && l->authentic;
    out.size = OUT_BYTES - 64;
    answer(conn, &out, p->flags & 3, transit);
}
