# Makes the database the first time, as the image of postgres does, and serves it.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    printf %s "$POSTGRES_PASSWORD" > /tmp/password
    initdb --username "$POSTGRES_USER" --pwfile /tmp/password --auth-host scram-sha-256 > /dev/null
    rm /tmp/password
    echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
    pg_ctl --silent --wait -o "-c listen_addresses=" start
    createdb --username "$POSTGRES_USER" "$POSTGRES_DB"
    pg_ctl --silent --wait stop
fi
exec postgres -c listen_addresses='*'
