# shellcheck shell=bash
# Our broker as a server of the peer benchmark: sourced by its servers.sh as the case `broker`, with SRV_DIR
# set. Sets SRV_PID, DRV_ARGS and FRESH. IW_BENCH_BROKER is the program; IW_BENCH_ARGS goes to the driver.
"$IW_BENCH_BROKER" --data-dir "$SRV_DIR/data" --endpoint "ipc://$SRV_DIR/data/broker.sock" --log-level warn \
  >"$SRV_DIR/log" 2>&1 &
SRV_PID=$!
# In data_dir, which the broker makes for its user alone. The socket appears before the broker reads it; what is sent
# meanwhile waits there.
until [ -S "$SRV_DIR/data/broker.sock" ]; do
  kill -0 "$SRV_PID" 2>/dev/null || {
    cat "$SRV_DIR/log" >&2
    SRV_PID=
    return 1
  }
  sleep 0.02
done
# shellcheck disable=SC2034  # read by the file that sources this one
DRV_ARGS="driver=broker endpoint=ipc://$SRV_DIR/data/broker.sock ${IW_BENCH_ARGS:-}" FRESH=1
