# Collects the demo's numbers, each from its own source, and compares them. For `source`.
#
#   the worker        /metrics: events, jobs, attempts
#   the receivers     a record of every request (JSON, one a line)
#   the broker        how many messages are on each queue
#   leadhook publish  how many events the broker has confirmed
#   leadhook failed   which jobs are on the failed queue

# Reads /metrics into METRICS.
scrape() {
    METRICS=$(
        exec 3<> "/dev/tcp/${ADMIN%:*}/${ADMIN##*:}"
        printf 'GET /metrics HTTP/1.0\r\nHost: leadhook\r\n\r\n' >&3
        cat <&3
    )
}

# metric NAME [LABEL]: prints the sum of its samples that carry this label, such as outcome="failed".
metric() {
    local name=$1 label=${2:-} line sum=0
    while read -r line; do
        [[ $line == "$name"[{\ ]* && $line == *"$label"* ]] || continue
        line=${line##* }
        sum=$((sum + ${line%.*}))
    done <<< "$METRICS"
    echo $sum
}

# reasons NAME: prints "2 of ..., 1 of ..." by the label `reason`.
reasons() {
    local line text=
    while read -r line; do
        [[ $line == "$1{"* && $line =~ reason=\"([a-z_]+)\" && ${line##* } != 0 ]] || continue
        text+="${text:+, }${line##* } ${BASH_REMATCH[1]}"
    done <<< "$METRICS"
    echo "$text"
}

# Returns whether every event and every job is settled.
settled() {
    alive "$DIR/worker.pid" || { tail -n 5 "$DIR/worker.log" >&2; die "the worker has ended"; }
    scrape
    local events jobs
    events=$(metric leadhook_events_total)
    jobs=$(($(metric leadhook_jobs_total 'outcome="delivered"') + $(metric leadhook_jobs_total 'outcome="failed"')))
    [ "$events" -ge "$PUBLISHED" ] && [ "$jobs" -ge "$(metric leadhook_deliveries_total)" ]
}

# read_records DIR: reads the requests that the receivers got. Sets POSTS, DELIVERED (1 or 0) and WHERE (receiver and
# path) for each webhook-id.
read_records() {
    local name line id
    declare -gA POSTS=() DELIVERED=() WHERE=()
    DISORDER=0 UNSIGNED=0 AGAIN=0
    for name in crm flaky down; do
        while read -r line; do
            [[ $line =~ \"path\":\"([^\"]*)\".*\"webhook_id\":\"([^\"]*)\",\"attempt\":([0-9]+),\"signature\":\"([a-z]+)\".*\"status\":([0-9]+) ]] || continue
            id=${BASH_REMATCH[2]}
            WHERE[$id]="$name ${BASH_REMATCH[1]}"
            POSTS[$id]=$((${POSTS[$id]:-0} + 1))
            [ "${BASH_REMATCH[3]}" = "${POSTS[$id]}" ] || DISORDER=$((DISORDER + 1))
            [ "$name" != crm ] || [ "${BASH_REMATCH[4]}" = verified ] || UNSIGNED=$((UNSIGNED + 1))
            [ "${DELIVERED[$id]:-0}" = 0 ] || AGAIN=$((AGAIN + 1))
            if [[ ${BASH_REMATCH[5]} == 2* ]]; then DELIVERED[$id]=1; else DELIVERED[$id]=${DELIVERED[$id]:-0}; fi
        done < "$1/$name.record"
    done
}

# check WHAT LEFT RIGHT: prints one line with both values, and counts a difference.
check() {
    if [ "$2" = "$3" ]; then
        printf '  %s %s: %s\n' "$(good ok)" "$1" "$2"
    else
        printf '  %s %s: %s, but %s\n' "$(bad WRONG)" "$1" "$2" "$3"
        WRONG=$((WRONG + 1))
    fi
}

# Prints a line per target, from the records alone. Sets ALL_POSTS, ALL_JOBS, ALL_DELIVERED, ALL_RETRIED and ALL_FAILED.
table_of_targets() {
    local id key path target
    local -A jobs=() delivered=() retried=() failed=() posts=()
    ALL_POSTS=0 ALL_JOBS=0 ALL_DELIVERED=0 ALL_RETRIED=0 ALL_FAILED=0
    for id in "${!POSTS[@]}"; do
        key=${WHERE[$id]}
        jobs[$key]=$((${jobs[$key]:-0} + 1)) ALL_JOBS=$((ALL_JOBS + 1))
        posts[$key]=$((${posts[$key]:-0} + POSTS[$id])) ALL_POSTS=$((ALL_POSTS + POSTS[$id]))
        if [ "${DELIVERED[$id]}" = 1 ]; then
            delivered[$key]=$((${delivered[$key]:-0} + 1)) ALL_DELIVERED=$((ALL_DELIVERED + 1))
            [ "${POSTS[$id]}" = 1 ] || { retried[$key]=$((${retried[$key]:-0} + 1)) ALL_RETRIED=$((ALL_RETRIED + 1)); }
        else
            failed[$key]=$((${failed[$key]:-0} + 1)) ALL_FAILED=$((ALL_FAILED + 1))
        fi
    done
    printf '  %-16s %-8s %6s %10s %14s %8s %7s\n' target receiver jobs delivered "after a retry" failed POSTs
    while read -r path; do
        key=$path
        path=${key#* } target=${path#/}
        # The demo's URLs spell the target acme/DEF#crm as acme/DEF/crm.
        if [[ $target == */*/* ]]; then target=${target%/*}#${target##*/}; fi
        printf '  %-16s %-8s %6d %10d %14d %8d %7d\n' "$target" "${key%% *}" "${jobs[$key]}" "${delivered[$key]:-0}" \
            "${retried[$key]:-0}" "${failed[$key]:-0}" "${posts[$key]}"
    done < <(printf '%s\n' "${!jobs[@]}" | sort -k 2)
    printf '  %-16s %-8s %6d %10d %14d %8d %7d\n' all "" $ALL_JOBS $ALL_DELIVERED $ALL_RETRIED $ALL_FAILED $ALL_POSTS
}

# queue NAME: prints the messages on it, as reported by the broker.
queue() { sed -n "s/^$1 //p" <<< "$QUEUES"; }

# story DIR RECEIVER PATH: prints every attempt of the first delivery that reached that path.
story() {
    local line id='' first=
    while read -r line; do
        [[ $line =~ \"time\":\"[0-9-]+T([0-9:.]+)Z\".*\"path\":\"$3\",\"event\":\"([a-z._]+)\".*\"webhook_id\":\"([^\"]*)\",\"attempt\":([0-9]+),.*\"status\":([0-9]+) ]] || continue
        [ -z "$id" ] || [ "$id" = "${BASH_REMATCH[3]}" ] || continue
        id=${BASH_REMATCH[3]}
        [ -n "$first" ] || { first=yes; echo "  ${BASH_REMATCH[2]}, webhook-id ${id:0:16}..."; }
        echo "    ${BASH_REMATCH[1]}  attempt ${BASH_REMATCH[4]} -> ${BASH_REMATCH[5]}"
    done < "$1/$2.record"
}

# summary DIR: prints everything. Fails if a sum does not add up.
summary() {
    local dir=$1 dispatched no_target rejected jobs delivered failed
    WRONG=0
    scrape
    read_records "$dir"
    QUEUES=$("$(binary)" demo-queues count)
    dispatched=$(metric leadhook_events_total 'result="dispatched"')
    no_target=$(metric leadhook_events_total 'result="no_target"')
    rejected=$(metric leadhook_events_total 'result="rejected"')
    jobs=$(metric leadhook_deliveries_total)
    delivered=$(metric leadhook_jobs_total 'outcome="delivered"')
    failed=$(metric leadhook_jobs_total 'outcome="failed"')

    heading "A retry that succeeded"
    story "$dir" flaky /acme/ABC
    heading "A job that ended on the failed queue"
    story "$dir" down /globex
    heading "The failed queue, as support sees it (leadhook failed list)"
    "$(binary)" failed list | sed 's/^\(.\)/  \1/'
    heading "Each event and target (a delivery): delivered or failed"
    table_of_targets
    heading "Does it add up?"
    printf '  %s events = %s dispatched + %s no target (%s) + %s rejected (%s)\n' "$PUBLISHED" "$dispatched" "$no_target" \
        "$(reasons leadhook_no_target_total)" "$rejected" "$(reasons leadhook_events_rejected_total)"
    check "published and confirmed = dispatched + no target + rejected" "$PUBLISHED" $((dispatched + no_target + rejected))
    check "dispatched, no target, rejected, deliveries: as the store says" "$dispatched $no_target $rejected $jobs" "$EXPECTED"
    check "deliveries (worker) = webhook-ids (receivers)" "$jobs" "$ALL_JOBS"
    check "delivered (worker) = answered 2xx (receivers)" "$delivered" "$ALL_DELIVERED"
    check "failed (worker) = never answered 2xx (receivers)" "$failed" "$ALL_FAILED"
    check "failed (worker) = on the failed queue (broker)" "$failed" "$(queue failed)"
    check "never answered 2xx, but not on the failed queue, or the other way round (by webhook-id)" "$(odd_ones)" 0
    check "rejected (worker) = on the rejected queue (broker)" "$rejected" "$(queue rejected)"
    check "attempts (worker) = POSTs (receivers)" "$(metric leadhook_attempts_total)" "$ALL_POSTS"
    check "attempts out of turn, bad signatures, POSTs after a delivery" "$DISORDER $UNSIGNED $AGAIN" "0 0 0"
    check "still waiting on any other queue" "$(waiting)" 0
    [ $WRONG = 0 ]
}

# Counts the webhook-ids that are on the failed queue or were never delivered, but not both.
odd_ones() {
    local id
    {
        for id in "${!POSTS[@]}"; do
            [ "${DELIVERED[$id]}" = 1 ] || echo "$id"
        done
        "$(binary)" failed list --json | sed -n 's/^ *"id": "\(.*\)",$/\1/p'
    } | sort | uniq -u | wc -l
}

# Counts messages on the events queue, the jobs queue and the delay queues.
waiting() {
    local name count sum=0
    while read -r name count; do
        case $name in
        failed | rejected) ;;
        *) sum=$((sum + count)) ;;
        esac
    done <<< "$QUEUES"
    echo $sum
}
