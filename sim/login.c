/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The login of an initiator (RFC 7143 6.3): with or without security stage, CHAP one way or both, keys whole or split over two
 * PDUs. Now and then something is wrong with it on purpose, and then it has to be refused, for the right reason.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/serve.h"

enum { STAGE_SECURITY = 0, STAGE_OPERATIONAL = 1, STAGE_FULL = 3 };
static const uint32_t wrong_status[WRONGS] = {0, 0x0201, 0x0202, 0x0203, 0x020a};

static bool chance(struct initiator *it)
{
    return serve_below(it->serve, 2);
}

/* Every second name proves itself, when the history has CHAP at all. */
void serve_access(const struct serve *serve, uint32_t number, struct iscsi_access *ret_access)
{
    if (!serve->mix.chap || number % 2 == 0) return;
    snprintf(ret_access->initiator.user, sizeof ret_access->initiator.user, "user%u", number);
    snprintf(ret_access->initiator.secret, sizeof ret_access->initiator.secret, "secret of user %u", number);
    if (!serve->mix.mutual) return;
    snprintf(ret_access->target.user, sizeof ret_access->target.user, "target");
    snprintf(ret_access->target.secret, sizeof ret_access->target.secret, "secret of the target");
}

/* ---- requests ---- */

static void request_send(struct initiator *it)
{
    struct login_plan *plan = &it->plan;
    uint32_t left = plan->left - plan->sent;
    bool split = plan->sent == 0 && left > 1 && serve_below(it->serve, 8) == 0;
    uint32_t bytes = split ? 1 + (uint32_t)serve_below(it->serve, left - 1) : left;
    struct pdu_out pdu = {.opcode = (enum pdu_opcode)(PDU_LOGIN | 0x40),
                          .lun = (uint64_t)(0x800000 + it->as) << 40 | (uint64_t)it->isid << 16 | plan->tsih,
                          .itt = it->next_itt,
                          .ttt = 1u << 16,
                          .data_bytes = bytes,
                          .w = {it->session.cmd_sn, it->session.stat_sn}};
    pdu.flags = split ? (uint8_t)((plan->flags & 0x0c) | PDU_CONTINUE) : plan->flags;
    plan->sent += bytes;
    wire_send(it->wire, &pdu, plan->text + plan->left - left);
}

/* Begins a request whose keys are in `out`. */
static void request(struct initiator *it, const struct keys_out *out, uint8_t stage, bool transit)
{
    struct login_plan *plan = &it->plan;
    uint8_t next = stage == STAGE_SECURITY ? STAGE_OPERATIONAL : STAGE_FULL;
    plan->left = (uint32_t)out->used;
    plan->sent = 0;
    plan->flags = (uint8_t)(stage << 2 | (transit ? PDU_TRANSIT | next : 0));
    request_send(it);
}

static void add_names(struct initiator *it, struct keys_out *out)
{
    bool wrong_name = it->plan.wrong == WRONG_NAME, wrong_target = it->plan.wrong == WRONG_TARGET;
    keys_add(out, "InitiatorName", "%s%s", it->name, wrong_name ? "x" : "");
    if (!it->plan.discovery) keys_add(out, "TargetName", "%s%s", SERVE_TARGET, wrong_target ? "x" : "");
    keys_add(out, "SessionType", it->plan.discovery ? "Discovery" : "Normal");
}

static void request_operational(struct initiator *it, struct keys_out *out)
{
    const struct serve_mix *mix = &it->serve->mix;
    struct login_plan *plan = &it->plan;
    uint32_t top = mix->small_bursts ? 6 : 10;
    uint32_t burst = 512u << serve_below(it->serve, top), first = 512u << serve_below(it->serve, top);
    plan->step = LOGIN_OPERATIONAL;
    plan->declared = 512u << serve_below(it->serve, 8);
    keys_add(out, "MaxRecvDataSegmentLength", "%u", plan->declared);
    if (!plan->discovery) {
        keys_add(out, "MaxBurstLength", "%u", burst);
        keys_add(out, "FirstBurstLength", "%u", min32(first, burst));
        keys_add(out, "MaxOutstandingR2T", "%u", 1 + (uint32_t)serve_below(it->serve, 4));
        if (chance(it)) keys_add(out, "InitialR2T", chance(it) ? "Yes" : "No");
        if (chance(it)) keys_add(out, "ImmediateData", chance(it) ? "Yes" : "No");
        if (chance(it)) keys_add(out, "MaxConnections", "1");
    }
    if (mix->digests) keys_add(out, "HeaderDigest", chance(it) ? "CRC32C,None" : "None,CRC32C");
    if (mix->digests) keys_add(out, "DataDigest", chance(it) ? "CRC32C" : "None");
    if (chance(it)) keys_add(out, "ErrorRecoveryLevel", "0");
    request(it, out, STAGE_OPERATIONAL, true);
}

/* Of any initiator's last session, or of none: no login may join one. */
static uint16_t draw_tsih(struct initiator *it)
{
    const struct initiator *whose = &it->serve->initiators[serve_below(it->serve, it->serve->mix.initiators)];
    return serve_below(it->serve, 4) ? whose->tsih : (uint16_t)(60000 + serve_below(it->serve, 100));
}

void login_begin(struct initiator *it)
{
    struct login_plan *plan = &it->plan;
    struct iscsi_access access = {0};
    struct keys_out out;
    serve_access(it->serve, it->as, &access);
    bool chap = access.initiator.user[0] != '\0';
    memset(plan, 0, sizeof *plan);
    it->session = (struct session){.cmd_sn = (uint32_t)serve_below(it->serve, 3) - 1, .stat_sn = 0};
    it->session.limits = (struct iscsi_limits){.initial_r2t = true,
                                               .immediate_data = true,
                                               .max_transmit = 8192,
                                               .max_burst = 262144,
                                               .first_burst = 65536,
                                               .max_r2t = 1};
    it->session.exp_cmd_sn = it->session.cmd_sn;
    it->session.max_cmd_sn = it->session.cmd_sn - 1;
    if (!it->serve->calm && prng_chance(&it->serve->lab->prng, it->serve->mix.wrong))
        plan->wrong = (enum wrong)(1 + serve_below(it->serve, WRONGS - 1));
    plan->discovery = !it->serve->calm && serve_below(it->serve, 16) == 0;
    if (plan->wrong == WRONG_SECRET && !chap) plan->wrong = WRONG_NOTHING;
    if (plan->wrong == WRONG_TARGET && plan->discovery) plan->wrong = WRONG_NOTHING;
    if (plan->wrong == WRONG_SESSION) plan->tsih = draw_tsih(it);
    if (plan->tsih == 0 && plan->wrong == WRONG_SESSION) plan->wrong = WRONG_NOTHING;
    plan->mutual = access.target.user[0] != '\0' && chance(it);
    it->next_itt++;
    keys_out_init(&out, plan->text, sizeof plan->text);
    add_names(it, &out);
    if (!chap && chance(it)) {
        request_operational(it, &out);
        return;
    }
    keys_add(&out, "AuthMethod", chap ? "CHAP,None" : "None");
    request(it, &out, STAGE_SECURITY, !chap);
}

/* ---- CHAP ---- */

static uint32_t hex_from(const char *text, uint8_t *ret, uint32_t room)
{
    uint32_t n = 0;
    if (strncmp(text, "0x", 2) != 0) return 0;
    for (text += 2; text[0] != '\0' && text[1] != '\0' && n < room; text += 2) {
        char two[3] = {text[0], text[1], '\0'};
        ret[n++] = (uint8_t)strtoul(two, NULL, 16);
    }
    return n;
}

static size_t response_to(enum digest_kind kind, uint8_t id, const char *secret, const uint8_t *challenge, uint32_t bytes,
                          uint8_t ret[DIGEST_BYTES_MAX])
{
    uint8_t all[1 + ISCSI_SECRET_MAX + 64];
    size_t length = strlen(secret);
    all[0] = id;
    memcpy(all + 1, secret, length);
    memcpy(all + 1 + length, challenge, bytes);
    return digest_of(kind, all, 1 + length + bytes, ret);
}

static void add_binary(struct keys_out *out, const char *key, const uint8_t *at, size_t size)
{
    char hex[2 * 64 + 1];
    struct text t;
    text_init(&t, hex, sizeof hex);
    text_add_hex(&t, at, size);
    keys_add(out, key, "0x%s", hex);
}

/* What the target said in one answer. */
struct said {
    const char *method, *algorithm, *id, *challenge, *name, *response;
};

static void prove(struct initiator *it, const struct said *said, struct keys_out *out)
{
    struct login_plan *plan = &it->plan;
    struct iscsi_access access = {0};
    uint8_t challenge[64], response[DIGEST_BYTES_MAX];
    bool complete = said->algorithm != NULL && said->id != NULL && said->challenge != NULL;
    if (!complete) {
        lab_fail(it->serve->lab, "CHAP without algorithm or challenge");
        return;
    }
    serve_access(it->serve, it->as, &access);
    if (plan->wrong == WRONG_SECRET) access.initiator.secret[0] ^= 1;
    enum digest_kind kind = strcmp(said->algorithm, "5") == 0 ? DIGEST_MD5 : DIGEST_SHA256;
    uint32_t bytes = hex_from(said->challenge, challenge, sizeof challenge);
    size_t n = response_to(kind, (uint8_t)strtoul(said->id, NULL, 10), access.initiator.secret, challenge, bytes, response);
    keys_add(out, "CHAP_N", "%s", access.initiator.user);
    add_binary(out, "CHAP_R", response, n);
    if (plan->mutual) {
        plan->id = (uint8_t)serve_below(it->serve, 256);
        prng_fill(&it->serve->lab->prng, plan->challenge, sizeof plan->challenge);
        keys_add(out, "CHAP_I", "%u", plan->id);
        add_binary(out, "CHAP_C", plan->challenge, sizeof plan->challenge);
    }
    plan->step = LOGIN_PROOF;
    request(it, out, STAGE_SECURITY, true);
}

static void check_proof(struct initiator *it, const struct said *said)
{
    const struct login_plan *plan = &it->plan;
    struct iscsi_access access = {0};
    uint8_t got[DIGEST_BYTES_MAX], expected[DIGEST_BYTES_MAX];
    serve_access(it->serve, it->as, &access);
    if (!plan->mutual) return;
    uint32_t bytes = said->response != NULL ? hex_from(said->response, got, sizeof got) : 0;
    enum digest_kind kind = bytes == 16 ? DIGEST_MD5 : DIGEST_SHA256;
    size_t n = response_to(kind, plan->id, access.target.secret, plan->challenge, sizeof plan->challenge, expected);
    bool named = said->name != NULL && strcmp(said->name, access.target.user) == 0;
    if (!named || n != bytes || memcmp(got, expected, n) != 0) lab_fail(it->serve->lab, "the target does not prove itself");
}

/* ---- answers ---- */

static void take_key(struct initiator *it, const char *key, const char *value, struct said *said)
{
    struct iscsi_limits *l = &it->session.limits;
    uint32_t number = (uint32_t)strtoul(value, NULL, 10);
    if (strcmp(key, "AuthMethod") == 0) said->method = value;
    if (strcmp(key, "CHAP_A") == 0) said->algorithm = value;
    if (strcmp(key, "CHAP_I") == 0) said->id = value;
    if (strcmp(key, "CHAP_C") == 0) said->challenge = value;
    if (strcmp(key, "CHAP_N") == 0) said->name = value;
    if (strcmp(key, "CHAP_R") == 0) said->response = value;
    if (strcmp(key, "HeaderDigest") == 0) l->header_digest = strcmp(value, "CRC32C") == 0;
    if (strcmp(key, "DataDigest") == 0) l->data_digest = strcmp(value, "CRC32C") == 0;
    if (strcmp(key, "InitialR2T") == 0) l->initial_r2t = strcmp(value, "Yes") == 0;
    if (strcmp(key, "ImmediateData") == 0) l->immediate_data = strcmp(value, "Yes") == 0;
    if (strcmp(key, "MaxRecvDataSegmentLength") == 0) l->max_transmit = number;
    if (strcmp(key, "MaxBurstLength") == 0) l->max_burst = number;
    if (strcmp(key, "FirstBurstLength") == 0) l->first_burst = number;
    if (strcmp(key, "MaxOutstandingR2T") == 0) l->max_r2t = number;
    if (strcmp(value, "Reject") == 0 || strcmp(value, "NotUnderstood") == 0)
        lab_fail(it->serve->lab, "login: the target answers %s=%s", key, value);
}

/* The session that it asked to join may be one of its own name and ISID, which has no room for another connection. */
static bool names_own_session(const struct initiator *it)
{
    for (uint32_t i = 0; i < it->serve->mix.initiators; i++) {
        const struct initiator *other = &it->serve->initiators[i];
        if (other->as == it->as && other->isid == it->isid && other->tsih == it->plan.tsih) return true;
    }
    return false;
}

static void refused(struct initiator *it, uint32_t status)
{
    static const char *const names[WRONGS] = {"nothing", "the secret", "the name", "the target's name", "the session"};
    enum wrong wrong = it->plan.wrong;
    bool busy = status == 0x0302, banned = status == 0x0202 && initiator_is_banned(it);
    sim_say(it->serve->sim, "initiator %u: login refused, %04x", it->number, status);
    it->refusals++;
    bool full = status == 0x0206 && wrong == WRONG_SESSION && names_own_session(it);
    if (wrong_status[wrong] != status && !busy && !banned && !full)
        lab_fail(it->serve->lab, "login refused with %04x, wrong was %s", status, names[wrong]);
    initiator_drop(it);
}

static void logged_in(struct initiator *it)
{
    struct session *s = &it->session;
    if (it->plan.wrong != WRONG_NOTHING) lab_fail(it->serve->lab, "a wrong login succeeds");
    s->limits.first_burst = min32(s->limits.first_burst, s->limits.max_burst);
    it->wire->header_digest = s->limits.header_digest;
    it->wire->data_digest = s->limits.data_digest;
    it->wire->data_max = it->plan.declared;
    it->phase = PHASE_FULL;
    it->since_ns = sim_now_ns(it->serve->sim);
    it->logins++;
    memcpy(it->told, it->news, sizeof it->told);
    sim_say(it->serve->sim, "initiator %u: logged in%s, burst %u, first %u, segments %u and %u%s%s%s%s", it->number,
            it->plan.discovery ? " to discover" : "", s->limits.max_burst, s->limits.first_burst, s->limits.max_transmit,
            it->plan.declared, s->limits.initial_r2t ? "" : ", no initial R2T", s->limits.immediate_data ? ", immediate" : "",
            s->limits.header_digest ? ", header digest" : "", s->limits.data_digest ? ", data digest" : "");
    it->tsih = it->plan.given;
    if (it->tsih == 0) lab_fail(it->serve->lab, "login: no TSIH");
    if (!it->plan.discovery) initiator_takes_over(it);
}

/* The next request, or the session. */
static void go_on(struct initiator *it, uint8_t flags, const struct said *said)
{
    struct login_plan *plan = &it->plan;
    struct keys_out out;
    bool transit = flags & PDU_TRANSIT;
    keys_out_init(&out, plan->text, sizeof plan->text);
    it->next_itt++;
    switch (plan->step) {
    case LOGIN_METHOD:
        if (transit) {
            request_operational(it, &out);
            return;
        }
        if (said->method == NULL || strcmp(said->method, "CHAP") != 0) {
            lab_fail(it->serve->lab, "login: no transit and no CHAP");
            return;
        }
        plan->step = LOGIN_ALGORITHM;
        keys_add(&out, "CHAP_A", chance(it) ? "5,7" : "7");
        request(it, &out, STAGE_SECURITY, false);
        return;
    case LOGIN_ALGORITHM: prove(it, said, &out); return;
    case LOGIN_PROOF:
        check_proof(it, said);
        if (!transit) lab_fail(it->serve->lab, "login: no transit after the proof");
        request_operational(it, &out);
        return;
    case LOGIN_OPERATIONAL:
        if (!transit) lab_fail(it->serve->lab, "login: no transit to full feature");
        logged_in(it);
        return;
    }
}

void login_answer(struct initiator *it, const uint8_t *header, const uint8_t *data, uint32_t bytes)
{
    char text[8192], *at = text, *key, *value;
    size_t left = bytes;
    struct said said = {0};
    uint32_t status = be16_at(header + 36);
    if (be32_at(header + 16) != it->next_itt) lab_fail(it->serve->lab, "login: an answer to something else");
    if (status != 0) {
        refused(it, status);
        return;
    }
    it->session.stat_sn = be32_at(header + 24) + 1;
    it->session.exp_cmd_sn = be32_at(header + 28);
    it->session.max_cmd_sn = be32_at(header + 32);
    if (it->plan.sent < it->plan.left) {
        if (bytes > 0 || (header[1] & PDU_TRANSIT)) lab_fail(it->serve->lab, "login: an answer before the request is whole");
        request_send(it);
        return;
    }
    it->plan.given = be16_at(header + 14);
    memcpy(text, data, bytes);
    while (keys_next(&at, &left, &key, &value) == OK) take_key(it, key, value, &said);
    if (!lab_failed(it->serve->lab)) go_on(it, header[1], &said);
}
