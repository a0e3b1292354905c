/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keys and certificates by GnuTLS. Everything is kept as DER and turned into GnuTLS's objects for the moment of use.
 *
 * The URI is written in one form and read by printing it again and comparing, so there is no lenient parser behind a signature.
 */
#include "cluster/identity.h"

#include <assert.h>
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha.h"
#include "base/text.h"

#define OID_COMMON_NAME "2.5.4.3"
enum { URI_MAX = 80, SERIAL_BYTES = 16, KEY_BITS = 256 };

static_assert((int)FINGERPRINT_CA_BYTES == (int)DIGEST_BYTES_MAX, "SHA-256");

/* ---- between GnuTLS and struct der ---- */

/* Takes over what GnuTLS exported. */
static enum err der_take(int failed, gnutls_datum_t *exported, struct der *ret_der)
{
    if (failed < 0) return ERR_NO_MEMORY;
    enum err err = exported->size <= DER_MAX ? OK : ERR_LIMIT;
    if (err == OK) {
        ret_der->bytes = exported->size;
        memcpy(ret_der->at, exported->data, exported->size);
    }
    gnutls_memset(exported->data, 0, exported->size);
    gnutls_free(exported->data);
    return err;
}

static gnutls_datum_t datum_of(const struct der *der)
{
    return (gnutls_datum_t){(unsigned char *)der->at, der->bytes};
}

/* NULL: it is none. */
static gnutls_x509_crt_t certificate_import(const void *at, size_t size)
{
    gnutls_x509_crt_t crt = NULL;
    gnutls_datum_t datum = {(unsigned char *)at, (unsigned)size};
    if (size == 0 || size > DER_MAX || gnutls_x509_crt_init(&crt) < 0) return NULL;
    if (gnutls_x509_crt_import(crt, &datum, GNUTLS_X509_FMT_DER) == 0) return crt;
    gnutls_x509_crt_deinit(crt);
    return NULL;
}

static gnutls_x509_privkey_t key_import(const struct der *der)
{
    gnutls_x509_privkey_t key = NULL;
    gnutls_datum_t datum = datum_of(der);
    if (der->bytes == 0 || gnutls_x509_privkey_init(&key) < 0) return NULL;
    if (gnutls_x509_privkey_import(key, &datum, GNUTLS_X509_FMT_DER) == 0) return key;
    gnutls_x509_privkey_deinit(key);
    return NULL;
}

static gnutls_x509_crq_t request_import(const struct der *der)
{
    gnutls_x509_crq_t crq = NULL;
    gnutls_datum_t datum = datum_of(der);
    if (der->bytes == 0 || gnutls_x509_crq_init(&crq) < 0) return NULL;
    if (gnutls_x509_crq_import(crq, &datum, GNUTLS_X509_FMT_DER) == 0) return crq;
    gnutls_x509_crq_deinit(crq);
    return NULL;
}

/* Imports failed: what is kept is damaged, or came from outside and is nothing of the kind. */
static void release(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, gnutls_x509_crq_t crq)
{
    if (crt != NULL) gnutls_x509_crt_deinit(crt);
    if (key != NULL) gnutls_x509_privkey_deinit(key);
    if (crq != NULL) gnutls_x509_crq_deinit(crq);
}

/* ---- names ---- */

static void uri_print(const struct cluster_id *cluster, uint32_t node, char uri[URI_MAX])
{
    struct text t;
    text_init(&t, uri, URI_MAX);
    text_add(&t, "urn:izar:");
    text_add_hex(&t, cluster->b, sizeof cluster->b);
    text_add(&t, ":%u", node);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* `uri` is a terminated string. */
static bool uri_read(const char *uri, struct certificate *certificate)
{
    static const char scheme[] = "urn:izar:";
    const size_t hex = 2 * CLUSTER_ID_BYTES, node_at = sizeof scheme - 1 + hex + 1;
    char again[URI_MAX];
    if (strlen(uri) <= node_at) return false;
    for (size_t i = 0; i < hex; i += 2) {
        int high = hex_digit(uri[sizeof scheme - 1 + i]), low = hex_digit(uri[sizeof scheme + i]);
        if (high < 0 || low < 0) return false;
        certificate->cluster.b[i / 2] = (uint8_t)(high << 4 | low);
    }
    certificate->node = (uint32_t)strtoul(uri + node_at, NULL, 10);
    if (certificate->node == 0 || certificate->node > NODE_NUMBER_MAX) return false;
    uri_print(&certificate->cluster, certificate->node, again);
    return strcmp(uri, again) == 0;
}

/* ---- making ---- */

enum err identity_new_key(struct der *ret_key)
{
    gnutls_x509_privkey_t key;
    gnutls_datum_t out;
    if (gnutls_x509_privkey_init(&key) < 0) return ERR_NO_MEMORY;
    int failed = gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA, GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
    if (failed >= 0) failed = gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_DER, &out);
    gnutls_x509_privkey_deinit(key);
    return der_take(failed, &out, ret_key);
}

enum err identity_request(const struct der *key, struct der *ret_request)
{
    gnutls_x509_privkey_t private = key_import(key);
    gnutls_x509_crq_t crq = NULL;
    gnutls_datum_t out;
    if (private == NULL) return ERR_DECODE;
    int failed = gnutls_x509_crq_init(&crq);
    if (failed >= 0) failed = gnutls_x509_crq_set_version(crq, 1);
    if (failed >= 0) failed = gnutls_x509_crq_set_dn_by_oid(crq, OID_COMMON_NAME, 0, "izar", 4);
    if (failed >= 0) failed = gnutls_x509_crq_set_key(crq, private);
    if (failed >= 0) failed = gnutls_x509_crq_sign2(crq, private, GNUTLS_DIG_SHA256, 0);
    if (failed >= 0) failed = gnutls_x509_crq_export2(crq, GNUTLS_X509_FMT_DER, &out);
    release(NULL, private, crq);
    return der_take(failed, &out, ret_request);
}

/* What all our certificates have. */
static int certificate_frame(gnutls_x509_crt_t crt, const char *name, uint64_t from_s, uint64_t until_s)
{
    uint8_t serial[SERIAL_BYTES];
    int failed = gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof serial);
    serial[0] = (uint8_t)((serial[0] & 0x7f) | 0x40); /* positive and of full length (RFC 5280 4.1.2.2) */
    if (failed >= 0) failed = gnutls_x509_crt_set_version(crt, 3);
    if (failed >= 0) failed = gnutls_x509_crt_set_serial(crt, serial, sizeof serial);
    if (failed >= 0) failed = gnutls_x509_crt_set_dn_by_oid(crt, OID_COMMON_NAME, 0, name, (unsigned)strlen(name));
    if (failed >= 0) failed = gnutls_x509_crt_set_activation_time(crt, (time_t)from_s);
    if (failed >= 0) failed = gnutls_x509_crt_set_expiration_time(crt, (time_t)until_s);
    return failed;
}

/* The CA signs itself. */
static enum err ca_create(const struct cluster_id *cluster, uint64_t now_s, const struct der *ca_key, struct der *ret_ca)
{
    char name[URI_MAX];
    struct text t;
    gnutls_datum_t out;
    gnutls_x509_crt_t crt = NULL;
    gnutls_x509_privkey_t key = key_import(ca_key);
    if (key == NULL) return ERR_DECODE;
    text_init(&t, name, sizeof name);
    text_add(&t, "Izar cluster ");
    text_add_hex(&t, cluster->b, sizeof cluster->b);
    int failed = gnutls_x509_crt_init(&crt);
    if (failed >= 0) failed = certificate_frame(crt, name, now_s - CERTIFICATE_BEFORE_S, now_s + CA_LIFE_S);
    if (failed >= 0) failed = gnutls_x509_crt_set_key(crt, key);
    if (failed >= 0) failed = gnutls_x509_crt_set_basic_constraints(crt, 1, 0);
    if (failed >= 0) failed = gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_KEY_CERT_SIGN);
    if (failed >= 0) failed = gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0);
    if (failed >= 0) failed = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_DER, &out);
    release(crt, key, NULL);
    return der_take(failed, &out, ret_ca);
}

/* The key is all that a request gives; what it says beside that is not looked at. */
static int take_public_key(gnutls_x509_crt_t crt, gnutls_x509_crq_t crq)
{
    gnutls_pubkey_t key;
    int failed = gnutls_pubkey_init(&key);
    if (failed < 0) return failed;
    failed = gnutls_pubkey_import_x509_crq(key, crq, 0);
    if (failed >= 0) failed = gnutls_x509_crt_set_pubkey(crt, key);
    gnutls_pubkey_deinit(key);
    return failed;
}

static enum err sign(const struct identity *holder, gnutls_x509_crq_t crq, uint32_t node, uint64_t now_s, struct der *ret_der)
{
    char uri[URI_MAX], name[32];
    struct text t;
    gnutls_datum_t out;
    gnutls_x509_crt_t crt = NULL, ca = certificate_import(holder->ca.at, holder->ca.bytes);
    gnutls_x509_privkey_t ca_key = key_import(&holder->ca_key);
    uri_print(&holder->cluster, node, uri);
    text_init(&t, name, sizeof name);
    text_add(&t, "Izar node %u", node);
    int failed = ca == NULL || ca_key == NULL ? -1 : gnutls_x509_crt_init(&crt);
    if (failed >= 0) failed = certificate_frame(crt, name, now_s - CERTIFICATE_BEFORE_S, now_s + CERTIFICATE_LIFE_S);
    if (failed >= 0) failed = take_public_key(crt, crq);
    if (failed >= 0) failed = gnutls_x509_crt_set_basic_constraints(crt, 0, -1);
    if (failed >= 0) failed = gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE);
    if (failed >= 0)
        failed = gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_URI, uri, (unsigned)strlen(uri), GNUTLS_FSAN_SET);
    if (failed >= 0) failed = gnutls_x509_crt_sign2(crt, ca, ca_key, GNUTLS_DIG_SHA256, 0);
    if (failed >= 0) failed = gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_DER, &out);
    release(crt, ca_key, NULL);
    release(ca, NULL, NULL);
    return der_take(failed, &out, ret_der);
}

/* Only keys of our kind, and only from who owns them. */
static enum err request_check(gnutls_x509_crq_t crq)
{
    unsigned bits = 0;
    if (gnutls_x509_crq_get_pk_algorithm(crq, &bits) != GNUTLS_PK_ECDSA || bits != KEY_BITS) return ERR_DENIED;
    return gnutls_x509_crq_verify(crq, 0) == 0 ? OK : ERR_DENIED;
}

enum err identity_sign(const struct identity *holder, const struct der *request, uint32_t node, uint64_t now_s,
                       struct der *ret_certificate)
{
    assert(holder->ca_key.bytes > 0 && node > 0 && node <= NODE_NUMBER_MAX);
    gnutls_x509_crq_t crq = request_import(request);
    if (crq == NULL) return ERR_DECODE;
    enum err err = request_check(crq);
    if (err == OK) err = sign(holder, crq, node, now_s, ret_certificate);
    gnutls_x509_crq_deinit(crq);
    return err;
}

enum err identity_create(const struct cluster_id *cluster, uint32_t node, uint64_t now_s, struct identity *ret_identity)
{
    struct identity made = {.cluster = *cluster, .node = node};
    struct der request = {0};
    TRY(identity_new_key(&made.ca_key));
    TRY(ca_create(cluster, now_s, &made.ca_key, &made.ca));
    TRY(identity_new_key(&made.key));
    TRY(identity_request(&made.key, &request));
    TRY(identity_sign(&made, &request, node, now_s, &made.certificate));
    *ret_identity = made;
    return OK;
}

/* ---- believing ---- */

void identity_fingerprint(const struct der *ca, uint8_t ret_fingerprint[FINGERPRINT_CA_BYTES])
{
    digest_of(DIGEST_SHA256, ca->at, ca->bytes, ret_fingerprint);
}

/* There must be exactly one name of ours in it. */
static enum err names_read(gnutls_x509_crt_t crt, struct certificate *certificate)
{
    char uri[URI_MAX];
    size_t size = sizeof uri - 1;
    if (gnutls_x509_crt_get_subject_alt_name(crt, 0, uri, &size, NULL) != GNUTLS_SAN_URI || size >= sizeof uri)
        return ERR_DECODE;
    uri[size] = '\0';
    if (strlen(uri) != size || !uri_read(uri, certificate)) return ERR_DECODE;
    size = sizeof uri - 1;
    return gnutls_x509_crt_get_subject_alt_name(crt, 1, uri, &size, NULL) == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE ? OK
                                                                                                                   : ERR_DECODE;
}

static enum err imported_read(gnutls_x509_crt_t crt, struct certificate *ret_certificate)
{
    struct certificate read = {.node = 0};
    TRY(names_read(crt, &read));
    time_t from = gnutls_x509_crt_get_activation_time(crt), until = gnutls_x509_crt_get_expiration_time(crt);
    if (from < 0 || until < from) return ERR_DECODE;
    read.from_s = (uint64_t)from;
    read.until_s = (uint64_t)until;
    *ret_certificate = read;
    return OK;
}

enum err certificate_read(const void *at, size_t size, struct certificate *ret_certificate)
{
    gnutls_x509_crt_t crt = certificate_import(at, size);
    if (crt == NULL) return ERR_DECODE;
    enum err err = imported_read(crt, ret_certificate);
    gnutls_x509_crt_deinit(crt);
    return err;
}

/* Times are compared here, not by GnuTLS, because it asks the system for the time. */
static bool is_signed_by(gnutls_x509_crt_t crt, const struct der *ca)
{
    unsigned status = ~0u, flags = GNUTLS_VERIFY_DISABLE_TIME_CHECKS | GNUTLS_VERIFY_DISABLE_TRUSTED_TIME_CHECKS;
    gnutls_x509_crt_t issuer = certificate_import(ca->at, ca->bytes);
    if (issuer == NULL) return false;
    int failed = gnutls_x509_crt_verify(crt, &issuer, 1, flags, &status);
    gnutls_x509_crt_deinit(issuer);
    return failed >= 0 && status == 0;
}

static enum err deny(char why[IDENTITY_WHY_MAX], const char *reason)
{
    struct text t;
    text_init(&t, why, IDENTITY_WHY_MAX);
    text_add(&t, "%s", reason);
    return ERR_DENIED;
}

static enum err times_check(const struct certificate *c, uint64_t now_s, char why[IDENTITY_WHY_MAX])
{
    struct text t;
    text_init(&t, why, IDENTITY_WHY_MAX);
    if (now_s >= c->from_s && now_s <= c->until_s) return OK;
    uint64_t off_s = now_s < c->from_s ? c->from_s - now_s : now_s - c->until_s;
    text_add(&t, "the certificate of node %u %s by %llu minutes: renew it, or set the clocks of the two nodes right", c->node,
             now_s < c->from_s ? "is not valid yet" : "has expired", (unsigned long long)(off_s / 60));
    return ERR_DENIED;
}

enum err certificate_check(const struct der *ca, const void *at, size_t size, uint64_t now_s, char why[IDENTITY_WHY_MAX],
                           struct certificate *ret_certificate)
{
    struct certificate read;
    gnutls_x509_crt_t crt = certificate_import(at, size);
    why[0] = '\0';
    if (crt == NULL) {
        deny(why, "what it shows is no certificate");
        return ERR_DECODE;
    }
    bool is_ours = is_signed_by(crt, ca);
    enum err err = is_ours ? imported_read(crt, &read) : deny(why, "its certificate was not signed by this cluster");
    gnutls_x509_crt_deinit(crt);
    if (err == ERR_DECODE) deny(why, "its certificate does not name a node");
    if (err == OK) err = times_check(&read, now_s, why);
    if (err == OK) *ret_certificate = read;
    return err;
}

/* ---- ours ---- */

/* The key id is a digest of the public key. */
static bool key_fits(gnutls_x509_privkey_t key, gnutls_x509_crt_t crt)
{
    uint8_t a[64], b[64];
    size_t a_size = sizeof a, b_size = sizeof b;
    if (gnutls_x509_privkey_get_key_id(key, GNUTLS_KEYID_USE_SHA256, a, &a_size) < 0) return false;
    if (gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA256, b, &b_size) < 0) return false;
    return a_size == b_size && memcmp(a, b, a_size) == 0;
}

static bool belong_together(const struct der *key, const struct der *certificate)
{
    gnutls_x509_privkey_t k = key_import(key);
    gnutls_x509_crt_t c = certificate_import(certificate->at, certificate->bytes);
    bool fits = k != NULL && c != NULL && key_fits(k, c);
    release(c, k, NULL);
    return fits;
}

bool identity_is_holder(const struct identity *identity)
{
    return identity->ca_key.bytes > 0 && belong_together(&identity->ca_key, &identity->ca);
}

enum err identity_adopt(struct identity *identity, const struct der *key, const struct der *certificate, uint64_t now_s)
{
    char why[IDENTITY_WHY_MAX];
    struct certificate c;
    TRY(certificate_check(&identity->ca, certificate->at, certificate->bytes, now_s, why, &c));
    if (memcmp(&c.cluster, &identity->cluster, sizeof c.cluster) != 0 || c.node != identity->node) return ERR_DENIED;
    if (!belong_together(key, certificate)) return ERR_DENIED;
    identity->key = *key;
    identity->certificate = *certificate;
    return OK;
}

bool identity_is_due(const struct identity *identity, uint64_t now_s, uint64_t *ret_left_s)
{
    struct certificate c;
    *ret_left_s = 0;
    if (certificate_read(identity->certificate.at, identity->certificate.bytes, &c) != OK) return true;
    if (now_s < c.until_s) *ret_left_s = c.until_s - now_s;
    return *ret_left_s < (c.until_s - c.from_s) / 3;
}
