/* COPY (FORMAT binary) to Arrow's buffers and back; called through ctypes without the interpreter's lock. Opens nothing, keeps nothing.
 *
 * Every length that the server sends is held against the message it came in. A value that its Arrow type cannot hold exactly becomes
 * null and is noted with its row and column: whoever calls rejects the row. Formats: PostgreSQL's documentation, "COPY", "Binary Format";
 * its sources, the *_send and *_recv functions. Layout: the Arrow columnar format, "Physical Memory Layout".
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned __int128 u128;
typedef __int128 i128;

enum kind { BOOL = 1, INT2, INT4, INT8, OID, FLOAT4, FLOAT8, NUMERIC, TEXT, JSONB, UUID, BYTES, DATE, TIME, TIMESTAMP };
enum outcome { FULL = 1, WAITING = 0, ENDED = -1, BROKEN = -2, MALFORMED = -3, NO_MEMORY = -4 };

typedef struct {
    int32_t kind, precision, scale, width; /* width: bytes of a value; 0 where they vary */
    uint8_t *valid, *data;
    int32_t *offsets;
    int64_t used, room, nulls;
} column;

typedef struct {
    int32_t columns, rows, most_rows, began, bad, bad_room;
    int64_t size, most_size;
    int64_t *faults; /* row, column */
    uint8_t *raw;    /* the rows at fault as they came: length, bytes */
    int64_t raw_used, raw_room;
    column column[];
} batch;

typedef int (*get_copy_data)(void *connection, char **buffer, int async);
typedef int (*consume_input)(void *connection);
typedef void (*free_memory)(void *);

/* What Python, and most of the systems that rows go to, call a date: 0001-01-01 to 9999-12-31. */
static const int64_t FIRST_DAY = -719162, LAST_DAY = 2932896, DAY = 86400000000LL;
static const int64_t POWERS[] = {1, 10, 100, 1000, 10000};

static uint16_t u16(const uint8_t *p) { return (uint16_t)(p[0] << 8 | p[1]); }
static uint32_t u32(const uint8_t *p) { uint32_t v; memcpy(&v, p, 4); return __builtin_bswap32(v); }
static uint64_t u64(const uint8_t *p) { uint64_t v; memcpy(&v, p, 8); return __builtin_bswap64(v); }

static int width_of(int kind) {
    switch (kind) {
    case BOOL: return 1;
    case INT2: return 2;
    case INT4: case FLOAT4: case DATE: return 4;
    case INT8: case OID: case FLOAT8: case TIME: case TIMESTAMP: return 8;
    case NUMERIC: return 16;
    default: return 0;
    }
}

/* ---- reading ------------------------------------------------------------------------------------------------------------------- */

void headrace_free(batch *b) {
    if (!b) return;
    for (int i = 0; i < b->columns; i++) {
        free(b->column[i].valid);
        free(b->column[i].data);
        free(b->column[i].offsets);
    }
    free(b->faults);
    free(b->raw);
    free(b);
}

/* kinds, precisions and scales: one of each a column. `began`: whether the stream's header has been read. */
batch *headrace_new(int32_t columns, const int32_t *kinds, const int32_t *precisions, const int32_t *scales, int32_t most_rows,
                    int64_t most_size, int32_t began) {
    batch *b = calloc(1, sizeof(batch) + sizeof(column) * (size_t)columns);
    if (!b) return NULL;
    b->columns = columns;
    b->most_rows = most_rows;
    b->most_size = most_size;
    b->began = began;
    for (int i = 0; i < columns; i++) {
        column *c = &b->column[i];
        c->kind = kinds[i];
        c->precision = precisions[i];
        c->scale = scales[i];
        c->width = width_of(kinds[i]);
        c->valid = calloc((size_t)most_rows / 8 + 8, 1);
        c->room = c->width ? (int64_t)c->width * most_rows + 64 : 65536;
        c->data = c->kind == BOOL ? calloc((size_t)c->room, 1) : malloc((size_t)c->room); /* of booleans, bits are set */
        c->offsets = c->width ? NULL : malloc(4 * ((size_t)most_rows + 1));
        if (!c->valid || !c->data || (!c->width && !c->offsets)) {
            headrace_free(b);
            return NULL;
        }
        if (c->offsets) c->offsets[0] = 0;
    }
    return b;
}

static int grow(uint8_t **at, int64_t *room, int64_t needed) {
    if (needed <= *room) return 1;
    int64_t wanted = *room;
    while (wanted < needed) wanted += wanted / 2 + 4096;
    uint8_t *bigger = realloc(*at, (size_t)wanted);
    if (!bigger) return 0;
    *at = bigger;
    *room = wanted;
    return 1;
}

static u128 power(int exponent) {
    u128 made = 1;
    while (exponent-- > 0) made *= 10;
    return made;
}

/* Multiplies by ten to some power; 0 where the product has more than 38 digits. */
static int scaled(u128 *value, int exponent) {
    if (!*value) return 1;
    if (exponent > 38) return 0;
    u128 factor = power(exponent);
    if (*value > (power(38) - 1) / factor) return 0;
    *value *= factor;
    return 1;
}

/* numeric_send: count, weight, sign, scale, then digits of base 10000. Returns 0 where decimal128 cannot hold it exactly. */
static int read_numeric(const uint8_t *p, int32_t size, int precision, int scale, i128 *out) {
    if (size < 8) return -1;
    int count = u16(p), weight = (int16_t)u16(p + 2), sign = u16(p + 4);
    if (size != 8 + 2 * count) return -1;
    if (sign != 0x0000 && sign != 0x4000) return 0; /* NaN, infinity */
    u128 value = 0;
    int lowest = 0; /* ten's exponent of the value's last digit so far */
    for (int i = 0; i < count; i++) {
        int digit = u16(p + 8 + 2 * i), exponent = 4 * (weight - i), step = 4;
        if (digit > 9999) return -1;
        if (exponent < -scale) { /* some or all of its four digits lie behind the last place */
            int hidden = -scale - exponent;
            if (hidden >= 4 ? digit != 0 : digit % POWERS[hidden] != 0) return 0;
            if (hidden >= 4) continue;
            digit /= (int)POWERS[hidden];
            step = 4 - hidden;
            exponent = -scale;
        }
        if (!scaled(&value, step) || value + (u128)digit >= power(38)) return 0;
        value += (u128)digit;
        lowest = exponent;
    }
    if (value && !scaled(&value, lowest + scale)) return 0;
    if (value >= power(precision)) return 0;
    *out = sign ? -(i128)value : (i128)value;
    return 1;
}

static void write_uuid(const uint8_t *p, uint8_t *out) {
    static const char hex[] = "0123456789abcdef";
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10) *out++ = '-';
        *out++ = (uint8_t)hex[p[i] >> 4];
        *out++ = (uint8_t)hex[p[i] & 15];
    }
}

/* Stores a value of fixed width. Returns 1, 0 where Arrow cannot hold it, -1 where the message is wrong. */
static int put_fixed(column *c, int row, const uint8_t *p, int32_t size) {
    static const int32_t sent[] = {0, 1, 2, 4, 8, 4, 4, 8, -1, -1, -1, -1, -1, 4, 8, 8};
    uint8_t *at = c->data + (int64_t)row * c->width;
    if (c->kind != NUMERIC && size != sent[c->kind]) return -1;
    switch (c->kind) {
    case BOOL: c->data[row >> 3] |= (uint8_t)((p[0] != 0) << (row & 7)); return 1;
    case INT2: { uint16_t v = u16(p); memcpy(at, &v, 2); return 1; }
    case INT4: case FLOAT4: { uint32_t v = u32(p); memcpy(at, &v, 4); return 1; }
    case INT8: case FLOAT8: { uint64_t v = u64(p); memcpy(at, &v, 8); return 1; }
    case OID: { uint64_t v = u32(p); memcpy(at, &v, 8); return 1; }
    case DATE: {
        int32_t v = (int32_t)u32(p), made;
        if (__builtin_add_overflow(v, 10957, &made) || made < FIRST_DAY || made > LAST_DAY) return 0; /* infinity, too */
        memcpy(at, &made, 4);
        return 1;
    }
    case TIME: {
        int64_t v = (int64_t)u64(p);
        if (v < 0 || v >= 86400000000LL) return 0; /* 24:00:00 */
        memcpy(at, &v, 8);
        return 1;
    }
    case TIMESTAMP: {
        int64_t v = (int64_t)u64(p), made;
        if (__builtin_add_overflow(v, 946684800000000LL, &made)) return 0;
        if (made < FIRST_DAY * DAY || made >= (LAST_DAY + 1) * DAY) return 0;
        memcpy(at, &made, 8);
        return 1;
    }
    default: {
        i128 made = 0;
        int held = read_numeric(p, size, c->precision, c->scale, &made);
        if (held == 1) memcpy(at, &made, 16);
        return held;
    }
    }
}

static int put_varying(column *c, const uint8_t *p, int32_t size) {
    if (c->kind == JSONB) {
        if (size < 1 || p[0] != 1) return -1;
        p++, size--;
    }
    int32_t length = c->kind == UUID ? 36 : size;
    if (c->kind == UUID && size != 16) return -1;
    if (c->used + length > INT32_MAX) return -4;
    if (!grow(&c->data, &c->room, c->used + length)) return -4;
    if (c->kind == UUID) write_uuid(p, c->data + c->used);
    else memcpy(c->data + c->used, p, (size_t)length);
    c->used += length;
    return 1;
}

static int note_fault(batch *b, int row, int place) {
    if (b->bad == b->bad_room) {
        b->bad_room = b->bad_room * 2 + 16;
        int64_t *bigger = realloc(b->faults, sizeof(int64_t) * 2 * (size_t)b->bad_room);
        if (!bigger) return 0;
        b->faults = bigger;
    }
    b->faults[2 * b->bad] = row;
    b->faults[2 * b->bad + 1] = place;
    b->bad++;
    return 1;
}

static int keep_raw(batch *b, const uint8_t *p, int64_t size) {
    if (!b->raw && !(b->raw = malloc((size_t)(b->raw_room = 65536)))) return 0;
    if (!grow(&b->raw, &b->raw_room, b->raw_used + 8 + size)) return 0;
    memcpy(b->raw + b->raw_used, &size, 8);
    memcpy(b->raw + b->raw_used + 8, p, (size_t)size);
    b->raw_used += 8 + size;
    return 1;
}

/* Reads one tuple behind its count of fields; returns the bytes it took, or an outcome below 0. */
static int64_t read_row(batch *b, const uint8_t *p, int64_t size) {
    int64_t at = 0;
    int row = b->rows, bad = 0;
    for (int i = 0; i < b->columns; i++) {
        column *c = &b->column[i];
        if (size - at < 4) return MALFORMED;
        int32_t length = (int32_t)u32(p + at);
        at += 4;
        int held = 0, missing = length == -1;
        if (!missing) {
            if (length < 0 || length > size - at) return MALFORMED;
            held = c->width ? put_fixed(c, row, p + at, length) : put_varying(c, p + at, length);
            if (held < 0) return held == -4 ? NO_MEMORY : MALFORMED;
            at += length;
            if (!held) {
                bad = 1;
                if (!note_fault(b, row, i)) return NO_MEMORY;
            }
        }
        if (held) c->valid[row >> 3] |= (uint8_t)(1 << (row & 7));
        else {
            c->nulls++;
            if (c->width && c->kind != BOOL) memset(c->data + (int64_t)row * c->width, 0, (size_t)c->width);
        }
        if (c->offsets) c->offsets[row + 1] = (int32_t)c->used;
    }
    if (bad && !keep_raw(b, p, at)) return NO_MEMORY;
    b->rows++;
    b->size += at + 2;
    return at;
}

/* Reads a message, which the server ends where a tuple ends. `ended` is set behind the last tuple. */
static int read_message(batch *b, const uint8_t *p, int64_t size, int *ended) {
    static const uint8_t signature[] = "PGCOPY\n\377\r\n";
    int64_t at = 0;
    if (!b->began) {
        if (size < 19 || memcmp(p, signature, 11) != 0 || u32(p + 11) != 0) return MALFORMED;
        at = 19 + (int64_t)u32(p + 15);
        b->began = 1;
    }
    while (at < size) {
        if (size - at < 2) return MALFORMED;
        int fields = (int16_t)u16(p + at);
        at += 2;
        if (fields == -1) {
            *ended = 1;
            return at == size ? FULL : MALFORMED;
        }
        if (fields != b->columns || b->rows >= b->most_rows) return MALFORMED;
        int64_t took = read_row(b, p + at, size - at);
        if (took < 0) return (int)took;
        at += took;
    }
    return at == size ? FULL : MALFORMED;
}

/* Fills the batch from a connection in COPY OUT. WAITING: nothing came for that many milliseconds; call again. */
int headrace_fill(batch *b, void *connection, int descriptor, int milliseconds, get_copy_data get, consume_input consume,
                  free_memory release) {
    while (b->rows < b->most_rows && b->size < b->most_size) {
        char *buffer = NULL;
        int size = get(connection, &buffer, 1), ended = 0;
        if (size == -1) return ENDED;
        if (size < 0) return BROKEN;
        if (size == 0) {
            struct pollfd ready = {descriptor, POLLIN, 0};
            int count = poll(&ready, 1, milliseconds);
            if (count == 0 || (count < 0 && errno == EINTR)) return WAITING;
            if (count < 0 || !consume(connection)) return BROKEN;
            continue;
        }
        int outcome = read_message(b, (const uint8_t *)buffer, size, &ended);
        release(buffer);
        if (outcome < 0) return outcome;
    }
    return FULL;
}

/* What a batch holds, for whoever wraps it. A column: addresses of validity, data and offsets; bytes of data; nulls. */
void headrace_column(const batch *b, int32_t place, int64_t *out) {
    const column *c = &b->column[place];
    out[0] = (int64_t)(intptr_t)c->valid, out[1] = (int64_t)(intptr_t)c->data, out[2] = (int64_t)(intptr_t)c->offsets;
    out[3] = c->width ? (int64_t)c->width * b->rows : c->used;
    out[4] = c->nulls;
}

/* Rows, bytes read, whether the header has been read; faults and where they are; the rows at fault and their bytes. */
void headrace_found(const batch *b, int64_t *out) {
    out[0] = b->rows, out[1] = b->size, out[2] = b->began, out[3] = b->bad;
    out[4] = (int64_t)(intptr_t)b->faults, out[5] = (int64_t)(intptr_t)b->raw, out[6] = b->raw_used;
}

/* Reads whole messages that lie in memory. */
int headrace_read(batch *b, const uint8_t *bytes, int64_t size) {
    int ended = 0;
    int outcome = read_message(b, bytes, size, &ended);
    return outcome < 0 ? outcome : ended ? ENDED : FULL;
}

/* ---- writing ------------------------------------------------------------------------------------------------------------------- */

typedef struct {
    int32_t kind, scale;
    const uint8_t *valid, *data;
    const int32_t *offsets;
    int64_t offset; /* of the first row, in rows */
} source;

typedef struct {
    uint8_t *data;
    int64_t used, room;
} output;

void headrace_release(output *o) {
    free(o->data);
    o->data = NULL;
}

static void put16(uint8_t *at, int v) { at[0] = (uint8_t)(v >> 8), at[1] = (uint8_t)v; }
static void put32(uint8_t *at, uint32_t v) { v = __builtin_bswap32(v); memcpy(at, &v, 4); }
static void put64(uint8_t *at, uint64_t v) { v = __builtin_bswap64(v); memcpy(at, &v, 8); }

/* Writes numeric_recv's form of value / 10^scale: its decimal digits, put into groups of four around the point. Returns its bytes. */
static int write_numeric(i128 value, int scale, uint8_t *out) {
    uint8_t digits[80] = {0}; /* one decimal digit each; [39] is the last one before the point */
    int16_t groups[20];
    u128 rest = value < 0 ? (u128)0 - (u128)value : (u128)value;
    int place = 39 + scale, highest = -1;
    uint64_t low;
    while (rest > UINT64_MAX) digits[place--] = (uint8_t)(rest % 10), rest /= 10;
    for (low = (uint64_t)rest; low; low /= 10) digits[place--] = (uint8_t)(low % 10);
    int count = 0, weight = -1;
    for (int i = 0; i < 20; i++) {
        const uint8_t *d = digits + 4 * i;
        int group = d[0] * 1000 + d[1] * 100 + d[2] * 10 + d[3];
        if (group && highest < 0) highest = i, weight = 9 - i;
        if (highest >= 0) groups[count++] = (int16_t)group;
    }
    while (count && !groups[count - 1]) count--;
    put16(out, count);
    put16(out + 2, count ? weight : 0);
    put16(out + 4, value < 0 ? 0x4000 : 0);
    put16(out + 6, scale);
    for (int i = 0; i < count; i++) put16(out + 8 + 2 * i, groups[i]);
    return 8 + 2 * count;
}

static int nibble(uint8_t c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads 8-4-4-4-12 hexadecimal digits; 0 for any other text. */
static int read_uuid(const uint8_t *p, int32_t size, uint8_t *out) {
    if (size != 36) return 0;
    for (int i = 0, at = 0; i < 16; i++) {
        if ((at == 8 || at == 13 || at == 18 || at == 23) && p[at++] != '-') return 0;
        int high = nibble(p[at]), low = nibble(p[at + 1]);
        if (high < 0 || low < 0) return 0;
        out[i] = (uint8_t)(high << 4 | low);
        at += 2;
    }
    return 1;
}

/* Writes a field behind its length; there is room for 64 bytes. Returns its bytes, -1 where it has no such form. */
static int write_fixed(const source *s, int64_t row, uint8_t *at) {
    switch (s->kind) {
    case BOOL: *at = (uint8_t)(s->data[row >> 3] >> (row & 7) & 1); return 1;
    case INT2: { uint16_t v; memcpy(&v, s->data + 2 * row, 2); put16(at, v); return 2; }
    case INT4: case FLOAT4: { uint32_t v; memcpy(&v, s->data + 4 * row, 4); put32(at, v); return 4; }
    case INT8: case FLOAT8: case TIME: { uint64_t v; memcpy(&v, s->data + 8 * row, 8); put64(at, v); return 8; }
    case DATE: {
        int32_t v, made;
        memcpy(&v, s->data + 4 * row, 4);
        if (__builtin_sub_overflow(v, 10957, &made) || made == INT32_MIN || made == INT32_MAX) return -1;
        put32(at, (uint32_t)made);
        return 4;
    }
    case TIMESTAMP: {
        int64_t v, made;
        memcpy(&v, s->data + 8 * row, 8);
        if (__builtin_sub_overflow(v, 946684800000000LL, &made) || made == INT64_MIN || made == INT64_MAX) return -1;
        put64(at, (uint64_t)made);
        return 8;
    }
    default: {
        i128 v;
        memcpy(&v, s->data + 16 * row, 16);
        return write_numeric(v, s->scale, at);
    }
    }
}

static int64_t write_varying(const source *s, int64_t row, output *o) {
    const uint8_t *p = s->data + s->offsets[row];
    int32_t size = s->offsets[row + 1] - s->offsets[row];
    if (size < 0 || size == INT32_MAX) return -1;
    if (!grow(&o->data, &o->room, o->used + 72 + size)) return NO_MEMORY;
    uint8_t *at = o->data + o->used + 4;
    if (s->kind == UUID) return read_uuid(p, size, at) ? 16 : -1;
    if (s->kind == JSONB) *at++ = 1;
    memcpy(at, p, (size_t)size);
    return s->kind == JSONB ? size + 1 : size;
}

/* Appends rows as tuples. Returns ENDED, or the number of the first row that has no such form, or NO_MEMORY. */
int64_t headrace_write(output *o, int32_t columns, const source *sources, int64_t rows) {
    for (int64_t row = 0; row < rows; row++) {
        if (!grow(&o->data, &o->room, o->used + 2 + 72 * (int64_t)columns)) return NO_MEMORY;
        put16(o->data + o->used, columns);
        o->used += 2;
        for (int i = 0; i < columns; i++) {
            const source *s = &sources[i];
            int64_t at = s->offset + row, size = -1;
            if (s->valid && !(s->valid[at >> 3] >> (at & 7) & 1)) {
                if (!grow(&o->data, &o->room, o->used + 72)) return NO_MEMORY;
                put32(o->data + o->used, UINT32_MAX);
                o->used += 4;
                continue;
            }
            if (s->offsets) size = write_varying(s, at, o);
            else {
                if (!grow(&o->data, &o->room, o->used + 72)) return NO_MEMORY;
                size = write_fixed(s, at, o->data + o->used + 4);
            }
            if (size == NO_MEMORY) return NO_MEMORY;
            if (size < 0) return row;
            put32(o->data + o->used, (uint32_t)size);
            o->used += 4 + size;
        }
    }
    return ENDED;
}
