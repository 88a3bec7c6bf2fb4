<?php
// The walk with PHP's curl and its cookie engine. Usage: clients.php CLIENT URL [CA-FILE]. Prints a line for each step.
[, , $base] = $argv;
$handle = curl_init();
curl_setopt_array($handle, [
    CURLOPT_RETURNTRANSFER => true,
    CURLOPT_COOKIEFILE => '', // keeps cookies in memory
    CURLOPT_PROXY => '',
    CURLOPT_TIMEOUT => 60,
]);
if (isset($argv[3])) {
    curl_setopt($handle, CURLOPT_CAINFO, $argv[3]);
}
$before = [];
foreach ([
    ['GET', '/auth/me'],
    ['GET', '/auth/userinfo'],
    ['POST', '/auth/login', ['user_id' => 'Jürgen 🧥']],
    ['GET', '/auth/me'],
    ['POST', '/auth/refresh'],
    ['GET', '/auth/me'],
    ['POST', '/auth/logout'],
    ['GET', '/auth/userinfo'],
] as $step) {
    [$method, $path] = $step;
    $body = $step[2] ?? null;
    curl_setopt_array($handle, [
        CURLOPT_URL => $base . $path,
        CURLOPT_CUSTOMREQUEST => $method,
        CURLOPT_POSTFIELDS => $body === null ? '' : json_encode($body),
        CURLOPT_HTTPHEADER => $body === null ? ['Content-Type:'] : ['Content-Type: application/json'],
    ]);
    $text = curl_exec($handle);
    if ($text === false) {
        fwrite(STDERR, curl_error($handle) . "\n");
        exit(1);
    }
    $said = $text === '' ? [] : json_decode($text, true, 8, JSON_THROW_ON_ERROR);
    // Each is a line of the Netscape format: domain, subdomains too, path, secure, expires, name, value. curl forgets a cookie that is
    // over no earlier than at the next request.
    $now = array_map(fn ($line) => explode("\t", $line), curl_getinfo($handle, CURLINFO_COOKIELIST));
    $now = array_values(array_filter($now, fn ($cookie) => $cookie[4] === '0' || $cookie[4] > time()));
    $kept = match (true) {
        $now === [] => 'empty',
        array_column($now, 6) === array_column($before, 6) => 'the same',
        count($now) === 1 => 'new',
        default => 'both',
    };
    printf("%s %s: %d %s, jar %s\n", $method, $path, curl_getinfo($handle, CURLINFO_RESPONSE_CODE), $said['code'] ?? $said['user_id'] ?? 'nobody', $kept);
    $before = $now;
}
