// Drives any design of sv/: reads jobs from stdin until it ends, answers each on stdout. All numbers are 64-bit little
// endian words. A job: number of walks, the walk to trace (-1: none), cycles a
// beat, 1 for double buffers; of a walk its number of tiles; of a tile its
// descriptor, numbers of load and of store beats, and the load beats: space << 16 | address, then the 8 bytes. The
// answer is described at `answer`. The memory side is a list of transfers in order: load 0, load 1, store 0, load 2, ...
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>
#include "verilated.h"
#ifdef WAVEFORM
#include "verilated_vcd_c.h"
#endif
#include MODEL_HEADER

using Word = uint64_t;
static const Word MOST_WAIT = 1000000;  // cycles without any progress

struct Tile {
    Word descriptor = 0, stores = 0;
    std::vector<Word> beats;  // pairs
    // edges, counted from reset; and counts
    Word load_begin = 0, load_end = 0, start = 0, done = 0, drained = 0, first_in = 0, last_in = 0, last_out = 0;
    Word in = 0, macs = 0, active = 0;
    std::vector<Word> stored;
};

static Word get() {
    Word word;
    if (std::fread(&word, sizeof word, 1, stdin) != 1) { std::fprintf(stderr, "the job ends early\n"); std::exit(1); }
    return word;
}

static void put(Word word) { std::fwrite(&word, sizeof word, 1, stdout); }

struct Transfer { bool load; size_t tile; };

static std::vector<Transfer> in_order(const std::vector<Tile>& tiles) {
    std::vector<Transfer> list;
    for (size_t i = 0; i <= tiles.size(); ++i) {
        if (i < tiles.size()) list.push_back({true, i});
        if (i > 0 && tiles[i - 1].stores > 0) list.push_back({false, i - 1});
    }
    return list;
}

// One walk from reset. `actives`: lanes at work of every cycle, where asked for.
static Word walk(MODEL& top, std::vector<Tile>& tiles, std::vector<Word>* actives, const char* waveform) {
#ifdef WAVEFORM
    std::unique_ptr<VerilatedVcdC> trace;
    if (waveform) { trace = std::make_unique<VerilatedVcdC>(); top.trace(trace.get(), 99); trace->open(waveform); }
#else
    (void)waveform;
#endif
    const auto transfers = in_order(tiles);
    size_t next = 0, beat = 0, computed = 0, drained = 0, wait = 0, started = 0;
    std::vector<size_t> groups;  // tiles that end an output group
    for (size_t i = 0; i < tiles.size(); ++i) if (tiles[i].descriptor & 2) groups.push_back(i);
    top.rst = 1; top.load_valid = 0; top.store_valid = 0;
    for (int i = 0; i < 2; ++i) { top.clk = 0; top.eval(); top.clk = 1; top.eval(); }
    top.rst = 0;
    Word cycle = 0;
    for (; next < transfers.size() || computed < tiles.size() || drained < groups.size(); ++cycle) {
        const bool moving = next < transfers.size();
        Tile* tile = moving ? &tiles[transfers[next].tile] : nullptr;
        top.load_valid = moving && transfers[next].load;
        top.store_valid = moving && !transfers[next].load;
        if (top.load_valid) {
            top.load_space = tile->beats[2 * beat] >> 16;
            top.load_addr = tile->beats[2 * beat] & 0xffff;
            top.load_data = tile->beats[2 * beat + 1];
            top.load_descriptor = tile->descriptor;
            top.load_last = 2 * beat + 2 == tile->beats.size();
        }
        if (top.store_valid) { top.store_addr = beat; top.store_last = beat + 1 == tile->stores; }
        top.clk = 0; top.eval();
#ifdef WAVEFORM
        if (trace) trace->dump(10 * cycle + 5);
#endif
        bool progress = top.ev_in || top.ev_done || top.ev_drained || top.ev_out;
        if (actives) actives->push_back(top.ev_active);
        if (top.ev_start && started < tiles.size()) tiles[started++].start = cycle;
        if (started > 0) {
            Tile& now = tiles[started - 1];
            if (top.ev_in) { if (!now.in) now.first_in = cycle; now.last_in = cycle; ++now.in; }
            now.macs += top.ev_macs;
            now.active += __builtin_popcountll(top.ev_active);
            if (top.ev_out) now.last_out = cycle;
        }
        if (top.ev_done && computed < tiles.size()) tiles[computed++].done = cycle;
        if (top.ev_drained && drained < groups.size()) tiles[groups[drained++]].drained = cycle;
        const bool loaded = top.load_valid && top.load_ready, stored = top.store_valid && top.store_ready;
        if (loaded && beat == 0) tile->load_begin = cycle;
        if (stored) tile->stored.push_back(top.store_data);
        if (loaded || stored) {
            progress = true;
            if (++beat == (loaded ? tile->beats.size() / 2 : tile->stores)) {
                if (loaded) tile->load_end = cycle;
                beat = 0; ++next;
            }
        }
        top.clk = 1; top.eval();
#ifdef WAVEFORM
        if (trace) trace->dump(10 * cycle + 10);
#endif
        wait = progress ? 0 : wait + 1;
        if (wait > MOST_WAIT) { std::fprintf(stderr, "no progress after cycle %llu\n", (unsigned long long)cycle); std::exit(2); }
    }
#ifdef WAVEFORM
    if (trace) trace->close();
#endif
    return cycle;
}

// Of a walk: its cycles; of every tile eleven words and its sums; then the lanes at work of every cycle of a traced one.
static void answer(Word cycles, const std::vector<Tile>& tiles, const std::vector<Word>& actives) {
    put(cycles);
    for (const Tile& t : tiles) {
        for (Word word : {t.load_begin, t.load_end, t.start, t.done, t.drained, t.first_in, t.last_in, t.last_out,
                          t.in, t.macs, t.active}) put(word);
        std::fwrite(t.stored.data(), sizeof(Word), t.stored.size(), stdout);
    }
    put(actives.size());
    std::fwrite(actives.data(), sizeof(Word), actives.size(), stdout);
}

int main(int argc, char** argv) {
    const auto context = std::make_unique<VerilatedContext>();
    context->traceEverOn(true);
    const auto top = std::make_unique<MODEL>(context.get());
    static char buffer[1 << 20];
    std::setvbuf(stdout, buffer, _IOFBF, sizeof buffer);
    Word walks;
    while (std::fread(&walks, sizeof walks, 1, stdin) == 1) {
        const Word traced = get();
        top->beat_cycles = get();
        top->double_buffered = get();
        for (Word w = 0; w < walks; ++w) {
            std::vector<Tile> tiles(get());
            for (Tile& tile : tiles) {
                tile.descriptor = get();
                tile.beats.resize(2 * get());
                tile.stores = get();
                if (!tile.beats.empty() && std::fread(tile.beats.data(), sizeof(Word), tile.beats.size(), stdin) != tile.beats.size())
                    return 1;
            }
            std::vector<Word> actives;
            const bool this_one = w == traced;
            const Word cycles = walk(*top, tiles, this_one ? &actives : nullptr, this_one && argc > 1 ? argv[1] : nullptr);
            answer(cycles, tiles, actives);
        }
        std::fflush(stdout);
    }
    return 0;
}
