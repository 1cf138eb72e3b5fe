-- Until now every key that was kept could do everything, and had all scopes of its day written out.
UPDATE keys SET scopes = 'full';
